# How often each generation was collected before main began.
import gc

print([s["collections"] for s in gc.get_stats()], [s["uncollectable"] for s in gc.get_stats()])
print(gc.get_count()[1:], gc.is_tracked(globals()))
