# Twenty threads of a small stack run and end; the count returns to one.
import threading

threading.stack_size(256 * 1024)
barrier = threading.Barrier(21)
out = []
lock = threading.Lock()


def work(i):
    barrier.wait()
    with lock:
        out.append(i)


ts = [threading.Thread(target=work, args=(i,)) for i in range(20)]
for t in ts:
    t.start()
barrier.wait()
for t in ts:
    t.join()
print(sorted(out) == list(range(20)), threading.active_count())
