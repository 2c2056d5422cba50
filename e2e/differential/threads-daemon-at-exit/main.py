# A daemon thread is dropped at exit, in the middle of its sleep.
import threading
import time


def forever():
    try:
        while True:
            time.sleep(10)
    finally:
        print("never printed")


threading.Thread(target=forever, daemon=True).start()
print("main ends", threading.active_count())
