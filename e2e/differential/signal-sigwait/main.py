# Blocking, sigwait and sigtimedwait behave; blocked signals die with the mask.
import os
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigpending(), signal.sigwait({signal.SIGUSR1}))
print(signal.sigtimedwait({signal.SIGUSR1}, 0.01))
print(signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}))
