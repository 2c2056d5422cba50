# A pickle of a __main__ class loaded by another interpreter fails with the known AttributeError.
import pickle
import subprocess
import sys


class Thing:
    pass


code = "import pickle, sys; pickle.load(sys.stdin.buffer)"
p = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(Thing()), capture_output=True)
print(p.returncode)
print(p.stderr.decode())
