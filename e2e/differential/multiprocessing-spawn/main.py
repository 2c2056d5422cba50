# spawn: main.py is imported again as __mp_main__ in a fresh interpreter.
import multiprocessing as mp
import sys

print("import as", __name__, flush=True)


def child(q):
    q.put((__name__, sys.argv, sys.modules["__main__"].__name__, mp.current_process().name))


if __name__ == "__main__":
    ctx = mp.get_context("spawn")
    q = ctx.SimpleQueue()
    p = ctx.Process(target=child, args=(q,))
    p.start()
    print(q.get())
    p.join()
    print(p.exitcode)
