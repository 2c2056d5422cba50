# ctypes: libc calls, callbacks, errno.
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
print(libc.strlen(b"hello"), libc.abs(-3), libc.getpid() == os.getpid(), ctypes.sizeof(ctypes.c_void_p))
print(libc.open(b"/nonexistent", 0), os.strerror(ctypes.get_errno()))
CMP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
arr = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
libc.qsort(arr, 5, ctypes.sizeof(ctypes.c_int), CMP(lambda a, b: a[0] - b[0]))
print(list(arr))
libc.printf(b"C stdio %d\n", 42)
libc.fflush(None)
print(ctypes.pythonapi.Py_IsInitialized(), ctypes.pythonapi.Py_GetVersion is not None)
libc.puts(b"left in the C buffer until exit")
