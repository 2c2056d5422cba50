# A python child: flags, path, environment, ids and limits are those of a child of the plain run.
import os
import subprocess
import sys

code = """
import os, resource, signal, sys
print(sys.flags); print(sys.path); print(sorted(sys.modules)); print(sys.argv, sys.orig_argv[1:2])
print(sorted(os.environ)); print(os.getresuid(), os.getgroups(), os.getpgrp() == os.getppid())
print([resource.getrlimit(i) for i in range(16)], oct(os.umask(0)), os.nice(0))
print(signal.pthread_sigmask(0, []), signal.getsignal(signal.SIGPIPE), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
p = subprocess.run([sys.executable, "-c", code, "arg"], capture_output=True, text=True)
print(p.stdout, p.stderr, p.returncode)
