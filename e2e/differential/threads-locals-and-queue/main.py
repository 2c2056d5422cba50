# thread-local data, a queue and a pool of threads with ordered results.
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

loc = threading.local()
loc.x = "main"
q = queue.Queue()


def work(n):
    q.put((n, hasattr(loc, "x"), threading.current_thread().name))
    return n * n


with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pool") as ex:
    print(list(ex.map(work, range(4))))
while not q.empty():
    print(q.get())
print(loc.x, ThreadPoolExecutor(1)._thread_name_prefix)
