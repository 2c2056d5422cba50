# forkserver: the server is started from this process' settings.
import multiprocessing as mp


def child(q, x):
    q.put((__name__, x * 2))


if __name__ == "__main__":
    ctx = mp.get_context("forkserver")
    q = ctx.SimpleQueue()
    p = ctx.Process(target=child, args=(q, 21))
    p.start()
    print(q.get())
    p.join()
    print(p.exitcode)
