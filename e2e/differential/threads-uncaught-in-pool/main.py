# An exception in a thread pool surfaces at result(), with the worker's frames.
from concurrent.futures import ThreadPoolExecutor


def bad(n):
    return 10 // n


with ThreadPoolExecutor(1) as ex:
    futures = [ex.submit(bad, n) for n in (5, 0)]
print(futures[0].result())
print(futures[1].result())
