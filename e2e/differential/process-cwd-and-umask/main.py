# Working directory, PWD, umask, and modes of new files and directories.
import os
import stat

print(os.getcwd() == os.path.dirname(__file__), os.path.relpath(os.readlink("/proc/self/cwd")), os.readlink("/proc/self/root"))
old = os.umask(0)
print(oct(old))
os.umask(old)
open("f", "w").close()
os.mkdir("d")
for n in ("f", "d", "main.py", "."):
    st = os.stat(n)
    print(n, stat.filemode(st.st_mode), st.st_uid, st.st_gid)
print(sorted(os.listdir(".")))
