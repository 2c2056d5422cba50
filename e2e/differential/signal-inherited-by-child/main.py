# A child inherits ignored and blocked signals; it must see the same masks.
import subprocess

subprocess.run(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"])
subprocess.run(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"], restore_signals=False)
