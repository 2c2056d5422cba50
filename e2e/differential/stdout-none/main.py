# sys.stdout = None: print is silent, the flush at exit does not mind.
import sys

print("visible")
sys.stdout = None
print("invisible")
