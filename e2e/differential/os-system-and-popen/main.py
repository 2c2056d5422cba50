# os.system results and output order, os.popen, posix_spawn.
import os
import sys

print("buffered")
print(os.system("echo from sh; exit 3"), flush=True)
print(os.waitstatus_to_exitcode(os.system("kill -15 $$")))
print(os.popen("echo popen; id -u").read().split())
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "echo spawned"], os.environ)
os.waitpid(pid, 0)
print(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 9"))
print(os.get_exec_path(), sys.stdout.isatty())
