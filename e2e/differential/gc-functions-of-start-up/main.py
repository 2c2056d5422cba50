# Every Python function alive at the start comes from a known module: code run before main would leave some.
import gc
import sys
import types

# What waits to be collected depends on the collector's allocation count, which is not what is asked here.
gc.collect()
mods = {}
for o in gc.get_objects():
    if isinstance(o, types.FunctionType):
        mods[o.__module__] = mods.get(o.__module__, 0) + 1
print(sorted(mods.items(), key=str))
print(len([o for o in gc.get_objects() if isinstance(o, type)]))
print([n for n in vars(sys) if not n.startswith("_")][-5:])
