# A file left open is flushed at a normal exit and not by os._exit: the program runs itself both ways.
import os
import sys

if sys.argv[1:]:
    f = open(sys.argv[1], "w")
    f.write("content")
    if sys.argv[1] == "hard":
        os._exit(0)
    sys.exit(0)
for name in ("soft", "hard"):
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "main.py", name])
    print(name, repr(open(name).read()))
