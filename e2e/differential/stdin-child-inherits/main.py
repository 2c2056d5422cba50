# Children share the stdin pipe: what a child did not read stays for the parent.
import os
import subprocess
import sys

subprocess.run(["head", "-c", "6"])
sys.stdout.flush()
print("parent", os.read(0, 100))
subprocess.run(["cat"])
