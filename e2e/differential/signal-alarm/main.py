# SIGALRM by setitimer, handled and by default; no timer is pending at the start.
import signal
import time

print(signal.alarm(0), signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_VIRTUAL), signal.getitimer(signal.ITIMER_PROF))


class Late(Exception):
    pass


def handler(num, frame):
    raise Late(signal.Signals(num).name)


signal.signal(signal.SIGALRM, handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while True:
        time.sleep(0.01)
except Late as exc:
    print("late", exc)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
print("default now", flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.05)
while True:
    time.sleep(0.01)
