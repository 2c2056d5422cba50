# The repr, type and spec-like attributes of the __main__ module object.
import os
import sys

m = sys.modules["__main__"]
print(repr(m).replace(os.getcwd(), "<job>"), type(m), sys.getrefcount(m) < 20)
print(list(sys.modules).index("__main__"), sys.modules["builtins"].__spec__)
print(m.__loader__.get_source("__main__").splitlines()[0], m.__loader__.is_package("__main__"))
