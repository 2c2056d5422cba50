# os.fork with waitpid, exit statuses, wait4 usage, a grandchild whose parent is gone.
import os

for code in (0, 1, 255):
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    got, status, usage = os.wait4(pid, 0)
    print(got == pid, os.WEXITSTATUS(status), usage.ru_utime < 5)
r, w = os.pipe()
if (pid := os.fork()) == 0:
    if os.fork() == 0:
        os.write(w, b"grandchild")
        os._exit(0)
    os._exit(0)
os.waitpid(pid, 0)
os.close(w)
print(os.read(r, 100), os.read(r, 100))
try:
    os.wait()
except ChildProcessError as exc:
    print(exc)
