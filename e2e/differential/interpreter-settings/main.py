# Switch interval, gc thresholds and state, intern checks.
import gc
import sys

print(sys.getswitchinterval(), gc.get_threshold(), gc.isenabled(), gc.get_debug())
print(gc.garbage, gc.callbacks, gc.get_freeze_count())
gc.collect()
print(gc.get_stats()[2]["uncollectable"])
a, b = 256, 257
print(a is int("256"), b is int("257"), sys.intern("abc") is sys.intern("ab" + "c"))
