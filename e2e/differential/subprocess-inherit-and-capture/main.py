# Children writing to inherited stdout/stderr and captured ones; errors of run.
import subprocess
import sys

subprocess.run(["echo", "inherited"])
subprocess.run("echo to stderr >&2", shell=True)
p = subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 7"], capture_output=True, text=True)
print(p)
print(subprocess.getstatusoutput("echo x; exit 2"))
try:
    subprocess.run(["/nonexistent/program"])
except FileNotFoundError as exc:
    print(exc)
try:
    subprocess.run(["sleep", "20"], timeout=0.05)
except subprocess.TimeoutExpired as exc:
    print(exc.cmd, exc.output)
sys.stdout.flush()
subprocess.run(["false"], check=True)
