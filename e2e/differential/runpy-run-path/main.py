# runpy.run_path / run_module of a helper as __main__, sys.argv and modules restored.
import runpy
import sys

r = runpy.run_path("script.py", run_name="__main__")
print(r["RESULT"], sys.argv, sys.modules["__main__"].__file__ == __file__)
r = runpy.run_module("script", run_name="other")
print(r["RESULT"], r["__spec__"].name)
