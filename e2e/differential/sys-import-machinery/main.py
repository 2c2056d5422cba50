# path_hooks, meta_path and the keys of path_importer_cache.
import os
import sys

print([getattr(h, "__qualname__", repr(h)) for h in sys.path_hooks])
print([getattr(f, "__qualname__", type(f).__qualname__) for f in sys.meta_path])
for key, finder in sorted(sys.path_importer_cache.items()):
    print(key.replace(os.getcwd(), "<job>"), type(finder).__name__)
