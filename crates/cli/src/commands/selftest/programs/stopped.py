# Stops itself: no signal but one can end what is stopped.
import os, signal

os.kill(os.getpid(), signal.SIGSTOP)
print('went on')
