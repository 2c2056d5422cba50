# A daemon that writes for as long as it lives, and longer than the program.
import os, signal

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
os.write(1, b'begun\n')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            try:
                os.write(2, b'still here\n')
            except OSError:
                pass
    os._exit(0)
os.wait()
os._exit(5)
