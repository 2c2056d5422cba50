# Running `python -m site` in a child gives the same report.
import os
import subprocess
import sys

out = subprocess.run([sys.executable, "-m", "site"], capture_output=True, text=True)
print(out.stdout.replace(os.getcwd(), "<job>"), out.stderr, out.returncode)
