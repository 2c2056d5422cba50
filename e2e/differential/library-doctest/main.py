# doctest of the module __main__: one example fails.
import doctest


def add(a, b):
    """
    >>> add(1, 2)
    3
    >>> add("a", 1)
    Traceback (most recent call last):
        ...
    TypeError: can only concatenate str (not "int") to str
    >>> add(1, 1)
    3
    """
    return a + b


print(doctest.testmod())
