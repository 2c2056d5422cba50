# globals() of __main__: keys in their order, and the value of every dunder.
print(list(globals()))
print(list(vars()) == list(globals()), dir())
print(__name__, __file__.rsplit("/", 1)[1], __file__[0], __spec__, __package__, __doc__)
print(type(__loader__).__module__, type(__loader__).__name__, __loader__.name, __loader__.path == __file__)
print(__builtins__, __annotations__, globals().get("__cached__", "absent"))
x: int = 3
print(__annotations__, list(globals()))
