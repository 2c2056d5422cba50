# sys.exit in a thread ends only the thread, silently.
import sys
import threading

t = threading.Thread(target=sys.exit, args=("ignored",))
t.start()
t.join()
print("alive")
sys.exit(6)
