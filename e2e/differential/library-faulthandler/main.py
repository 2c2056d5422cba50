# faulthandler is off; dump_traceback shows only this program's frames; enabled, it reports a SIGSEGV.
import faulthandler
import os
import signal
import sys

print(faulthandler.is_enabled(), flush=True)


def f():
    faulthandler.dump_traceback(all_threads=False)


f()
faulthandler.enable(all_threads=False)
print(faulthandler.is_enabled(), flush=True)
faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=False)
os.kill(os.getpid(), signal.SIGUSR1)
faulthandler.unregister(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGSEGV)
