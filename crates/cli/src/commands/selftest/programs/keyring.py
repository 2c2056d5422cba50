# Keeps something for whoever runs next, in the keyring of its user and in the others: there are none to be had.
import ctypes

ADD_KEY = 248
libc = ctypes.CDLL(None, use_errno=True)
for keyring in range(-8, 0):
    libc.syscall(ADD_KEY, b'user', b'name', b'kept', 4, keyring)
# Those of a process and of a thread end with it.
kept = [line for line in open('/proc/keys') if ' _pid:' not in line and ' _tid:' not in line]
print(''.join(kept) or 'no keys')
