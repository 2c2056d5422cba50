# ProcessPoolExecutor: results, an exception with its remote traceback, a broken pool.
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


def work(n):
    if n < 0:
        raise ValueError(n)
    return n + 1


if __name__ == "__main__":
    with ProcessPoolExecutor(max_workers=1) as ex:
        print(list(ex.map(work, [1, 2, 3])))
        try:
            ex.submit(work, -1).result()
        except ValueError as exc:
            print(repr(exc), type(exc.__cause__).__name__)
        try:
            ex.submit(os._exit, 3).result()
        except BrokenProcessPool as exc:
            print("broken")
