# os.execvp of a shell with its own exit code, and the signal dispositions it inherits.
import os
import sys

print("flushed")
sys.stdout.flush()
os.execvp("sh", ["sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd; exit 17"])
