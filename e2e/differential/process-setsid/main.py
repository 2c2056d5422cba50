# setsid, setpgid: what is possible depends on being a leader already.
import os

for fn in (os.setsid, os.setpgrp, lambda: os.setpgid(0, 0), lambda: os.tcgetpgrp(0)):
    try:
        print(fn() is not None)
    except OSError as exc:
        print(exc)
print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid())
