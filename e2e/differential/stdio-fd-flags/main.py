# Flags of fds 0-2: access mode, O_APPEND, O_NONBLOCK, close-on-exec, kind, inheritable.
import fcntl
import os
import stat

for fd in range(3):
    fl = fcntl.fcntl(fd, fcntl.F_GETFL)
    print(fd, fl & os.O_ACCMODE, bool(fl & os.O_APPEND), bool(fl & os.O_NONBLOCK), oct(fl))
    st = os.fstat(fd)
    print(" ", stat.filemode(st.st_mode)[0], fcntl.fcntl(fd, fcntl.F_GETFD), os.get_inheritable(fd), st.st_blksize, st.st_nlink)
    print(" ", os.readlink(f"/proc/self/fd/{fd}").split(":")[0], os.get_blocking(fd))
a, b, c = (os.fstat(fd).st_ino for fd in range(3))
print(a != b, b != c, a != c)
