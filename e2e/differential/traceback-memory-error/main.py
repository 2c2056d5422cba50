# A hopeless allocation raises MemoryError and a traceback, not a kill.
import sys

print("before")
sys.stdout.flush()
x = bytearray(1 << 60)
