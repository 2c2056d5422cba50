# os._exit loses the buffered stdout but not stderr or what was flushed.
import atexit
import os
import sys

atexit.register(print, "never")
print("flushed")
sys.stdout.flush()
print("lost")
sys.stderr.write("stderr text")
os._exit(13)
