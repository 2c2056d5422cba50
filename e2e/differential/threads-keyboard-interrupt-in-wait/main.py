# SIGINT while main waits in join: KeyboardInterrupt in main, then threads are joined.
import os
import signal
import threading
import time


def work():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


t = threading.Thread(target=work)
t.start()
try:
    t.join()
    time.sleep(2)
    print("no interrupt")
except KeyboardInterrupt:
    print("interrupted")
