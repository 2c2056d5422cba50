# Helpers that shadow stdlib modules: only modules loaded at start-up are immune.
import colorsys
import random
import os
import site
import sys

print(colorsys.WHO, random.WHO, hasattr(os, "WHO"), hasattr(site, "WHO"))
for name in ("abc", "codecs", "io", "stat", "types", "functools", "linecache", "token"):
    print(name, name in sys.modules, hasattr(__import__(name), "WHO"))
