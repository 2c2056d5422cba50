# User and group ids in all their forms, login name, groups.
import os
import pwd

print(os.getuid(), os.geteuid(), os.getresuid(), os.getgid(), os.getegid(), os.getresgid(), os.getgroups())
print(pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser("~"), os.path.expanduser("~nobody"))
try:
    print(os.getlogin())
except OSError as exc:
    print(exc)
for fn in (lambda: os.setuid(0), lambda: os.setgroups([]), lambda: os.seteuid(65533)):
    try:
        fn()
    except OSError as exc:
        print(exc)
