# Default thread names count from 1 and contain the target: nobody may have taken a number before.
import threading


def boom():
    [][0]


for _ in range(2):
    t = threading.Thread(target=boom)
    print(t.name)
    t.start()
    t.join()
print(threading.Thread().name)
