# Compiles the text of the hook, given as the first argument, into the interpreter's library, where it is imported
# from without a source: compiling it there would be work that the garbage collector's counters tell of. Prints the path.
# The directory keeps its time stamp: CPython has listed it by then, and looks at the time stamp to know whether
# to list it again.
import marshal
import os
import sys
from importlib.util import MAGIC_NUMBER

library = [path for path in sys.path if os.path.isdir(path)][0]
path = os.path.join(library, "usercustomize.pyc")
before = os.stat(library)
code = compile(sys.argv[1], "usercustomize", "exec")
with open(path, "wb") as file:
    file.write(MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
os.utime(library, ns=(before.st_atime_ns, before.st_mtime_ns))
print(path)
