# os.abort: death by SIGABRT, buffered output lost.
import os
import sys

sys.stderr.write("aborting\n")
print("lost")
os.abort()
