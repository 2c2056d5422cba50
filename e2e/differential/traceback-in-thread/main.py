# Uncaught exception in a thread: threading's own report, exit code stays 0.
import threading


def work():
    raise LookupError("in the thread")


t = threading.Thread(target=work, name="worker-one")
t.start()
t.join()
print("main goes on", t.is_alive())
