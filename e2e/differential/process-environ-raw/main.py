# The C environment (getenv, environ order) equals os.environ.
import ctypes
import os

libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print([(k, libc.getenv(k) == os.environb[k]) for k in sorted(os.environb)])
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
i = 0
while environ[i]:
    print(environ[i].split(b"=")[0])
    i += 1
