# Stdlib functions that only ran in start-up are specialised no more than in the plain run.
import os
import sys


def opnames(fn):
    code = fn.__code__
    return sum(a != b for a, b in zip(code.co_code, code._co_code_adaptive))


print(opnames(os.path.join), opnames(os.path.abspath), opnames(os.fspath) if hasattr(os.fspath, "__code__") else "C")
site = sys.modules["site"]
print([(n, opnames(getattr(site, n))) for n in ("main", "abs_paths", "addsitedir", "makepath", "removeduppaths", "venv")])
