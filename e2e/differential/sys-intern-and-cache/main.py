# Sizes of start-up caches that a warmed interpreter could show: codecs, linecache, re, abc.
import sys

print(sorted(sys.modules["encodings"]._cache))
print(len(sys.modules["encodings.aliases"].aliases))
print([n for n in ("linecache", "re", "warnings", "functools", "collections", "types", "enum") if n in sys.modules])
import linecache
import re

print(len(linecache.cache), len(re._cache))
print(sys.modules["codecs"].lookup("utf-8").name, sorted(sys.modules["encodings"]._cache))
