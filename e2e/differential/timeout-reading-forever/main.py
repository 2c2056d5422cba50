# Waiting on a pipe that never gets anything, after a finally was set up.
import os

r, w = os.pipe()
print("waiting", flush=True)
try:
    os.read(r, 1)
finally:
    print("finally", flush=True)
