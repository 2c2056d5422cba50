# The kernel's view of signals of the process: pending, blocked, ignored, caught.
for line in open("/proc/self/status"):
    if line.startswith(("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")):
        print(line.strip())
