# A .pth file and a usercustomize made by the program act on a child with that HOME, not on this process.
import os
import site
import subprocess
import sys

d = os.path.join(os.getcwd(), os.path.relpath(site.getusersitepackages(), site.getuserbase() + "/.."))
os.makedirs(d)
with open(os.path.join(d, "usercustomize.py"), "w") as f:
    f.write("print('usercustomize runs')\n")
with open(os.path.join(d, "x.pth"), "w") as f:
    f.write("import sys; sys.stdout.write('pth line runs\\n')\n")
os.environ["HOME"] = os.getcwd()
print("usercustomize" in sys.modules, d in sys.path, os.path.relpath(d), flush=True)
subprocess.run([sys.executable, "-c", "import sys; print('usercustomize' in sys.modules)"])
print("usercustomize" in sys.modules, os.path.expanduser("~") == os.getcwd())
