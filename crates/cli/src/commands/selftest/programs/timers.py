# Timers, watches and events until no more are to be had.
import ctypes, os, resource, signal

libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
made = 0
for make in (lambda: libc.inotify_init1(0), lambda: libc.timerfd_create(1, 0), lambda: libc.eventfd(0, 0),
             lambda: libc.epoll_create1(0), lambda: libc.memfd_create(b'x', 0)):
    while make() >= 0:
        made += 1
timer = ctypes.c_void_p()
timers = 0
while timers < 100_000 and libc.timer_create(0, None, ctypes.byref(timer)) == 0:
    timers += 1
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
print(made > 100)
