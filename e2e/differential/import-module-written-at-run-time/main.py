# A module written just now is found by the import system, at once or after invalidate_caches.
import importlib
import os

open("made_now.py", "w").write("VALUE = 'fresh'\n")
importlib.invalidate_caches()
import made_now

print(made_now.VALUE)
try:
    import not_yet
except ImportError as exc:
    print(exc)
os.mkdir("later")
open("later/__init__.py", "w").write("VALUE = 2\n")
importlib.invalidate_caches()
import later

print(later.VALUE)
