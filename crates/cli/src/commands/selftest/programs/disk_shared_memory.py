# The file system of shared memory, and shared memory itself.
import ctypes, os

with open('/dev/shm/filler', 'wb', buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError as error:
        print(error)
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
print([libc.shmget(number, 1 << 20, 0o1600) > -2 for number in range(3)])
