# Handlers run in the main thread between bytecodes, with the frame of main.
import os
import signal
import threading


def handler(num, frame):
    # in which function of threading the last one arrives is left to chance
    where = frame.f_code.co_name if frame.f_globals is globals() else "elsewhere"
    print(signal.Signals(num).name, t is None and where, threading.current_thread().name)


t = None


for num in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
    print(signal.signal(num, handler))
    os.kill(os.getpid(), num)
t = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
t.start()
t.join()
print("end")
