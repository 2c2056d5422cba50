# The disposition of every signal, the mask, pending signals, and the wakeup fd.
import signal

for num in sorted(signal.valid_signals()):
    got = signal.getsignal(num)
    if callable(got) and not isinstance(got, signal.Handlers):
        got = got is signal.default_int_handler and "default_int_handler"
    print(int(num), got)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.sigpending())
print(signal.set_wakeup_fd(-1))
