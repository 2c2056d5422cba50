# inspect.getsource of own functions and classes, linecache of main, signature.
import inspect
import linecache
import sys


def own(a, b: int = 2, *args, key=None, **kw) -> str:
    # a comment inside
    return f"{a}"


class C:
    attr = 1


print(inspect.getsource(own), inspect.getsource(C), inspect.signature(own))
print(inspect.getsourcelines(own)[1], inspect.getmodule(own) is sys.modules["__main__"], inspect.getfile(C) == __file__)
print(repr(linecache.getline(__file__, 1)), inspect.getcomments(own), inspect.currentframe().f_lineno)
print([f.function for f in inspect.stack()])
