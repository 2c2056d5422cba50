# tracemalloc is off, counts when on, and names this file.
import sys

print("tracemalloc" in sys.modules)
import tracemalloc

print(tracemalloc.is_tracing(), tracemalloc.get_traceback_limit(), tracemalloc.get_traced_memory())
tracemalloc.start()
keep = [bytes(1000) for _ in range(100)]
snap = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
top = snap.statistics("lineno")[0]
print(top.traceback[0].lineno, top.size >= 100_000)
tracemalloc.stop()
print(tracemalloc.is_tracing())
