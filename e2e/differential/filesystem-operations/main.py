# Links, permissions, special files, locks and times in the job directory.
import fcntl
import os
import stat

open("a", "w").write("x")
os.symlink("a", "link")
os.link("a", "hard")
os.mkfifo("fifo")
os.chmod("a", 0o640)
os.utime("a", (1, 2))
print(os.readlink("link"), os.stat("a").st_nlink, stat.filemode(os.lstat("fifo").st_mode), oct(os.stat("a").st_mode), os.stat("a").st_mtime)
f = open("a")
fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
print([(e.name, e.is_file(), e.is_symlink()) for e in sorted(os.scandir("."), key=lambda e: e.name)])
os.chdir("/")
print(os.path.basename(__file__), os.path.isabs(__file__), os.path.exists(__file__), os.getcwd())
try:
    os.mknod("/tmp/dev-node", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
except OSError as exc:
    print(exc.strerror)
