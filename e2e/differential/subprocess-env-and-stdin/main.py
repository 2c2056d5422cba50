# env passing, cwd, a child that reads stdin, Popen pipes, pass_fds, start_new_session.
import os
import subprocess
import sys

print(subprocess.check_output(["env"], env={"ONLY": "this"}), subprocess.check_output(["pwd"], cwd="/"))
print(subprocess.run(["cat"], input=b"fed").stdout, subprocess.check_output(["tr", "a-z", "A-Z"], input=b"piped"))
r, w = os.pipe()
subprocess.run(["sh", "-c", f"echo through fd >&{w}"], pass_fds=[w])
print(os.read(r, 100))
code = "import os; print(os.getsid(0) == os.getpid())"
subprocess.run([sys.executable, "-c", code], start_new_session=True)
p = subprocess.Popen(["sh", "-c", "kill -9 $$"])
print(p.wait(), repr(p.args[0]))
subprocess.run([sys.executable, "-"], input=b"print('from stdin', __name__)\n1/0\n")
