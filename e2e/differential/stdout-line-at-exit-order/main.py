# Output printed by atexit, __del__ and threads at exit keeps its order.
import atexit
import threading
import time


class D:
    def __del__(self):
        print("del at teardown")


def late():
    time.sleep(0.05)
    print("thread")


keep = D()
atexit.register(print, "atexit")
threading.Thread(target=late).start()
print("main")
