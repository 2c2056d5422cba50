# threading is first imported in a thread made by _thread: which thread counts as main.
import _thread
import sys
import time

print("threading" in sys.modules)
done = []


def work():
    import threading

    done.append((threading.current_thread().name, threading.main_thread() is threading.current_thread()))


_thread.start_new_thread(work, ())
while not done:
    time.sleep(0.005)
print(done)
