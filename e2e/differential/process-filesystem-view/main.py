# Root directory, /tmp, /dev and mounts as the program sees them.
import os

print(sorted(os.listdir("/")))
mine = [n for n in os.listdir("/tmp") if os.lstat("/tmp/" + n).st_uid == os.getuid()]
print([n for n in mine if os.path.join("/tmp", n) != os.getcwd()])
print(sorted(os.listdir("/dev")))
for line in open("/proc/self/mounts"):
    print(*[f.replace(os.getcwd(), "<job>") for f in line.split()[:3]])
print(oct(os.stat("/tmp").st_mode), os.access("/", os.W_OK), os.access("/tmp", os.W_OK), os.access(".", os.W_OK))
