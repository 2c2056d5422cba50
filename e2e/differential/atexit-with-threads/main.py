# Non-daemon threads are joined before atexit callbacks run.
import atexit
import threading
import time

go = threading.Event()


def work():
    go.wait()
    time.sleep(0.05)
    print("thread ends", threading.main_thread().is_alive())


atexit.register(lambda: print("atexit", threading.active_count()))
threading.Thread(target=work).start()
print("main ends")
go.set()
