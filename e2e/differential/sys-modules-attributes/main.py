# Files, loaders and cached paths of all modules loaded at the start.
import sys

for name, m in sorted(sys.modules.items()):
    spec = getattr(m, "__spec__", None)
    loader = getattr(m, "__loader__", None)
    kind = loader.__name__ if isinstance(loader, type) else type(loader).__name__
    if name != "__main__":
        print(name, getattr(m, "__file__", None), kind, spec and spec.origin, getattr(m, "__cached__", None))
