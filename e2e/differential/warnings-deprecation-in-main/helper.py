import warnings


def f():
    warnings.warn("old in helper", DeprecationWarning)
    warnings.warn("shown in helper", RuntimeWarning)
    warnings.warn("blamed on main", DeprecationWarning, stacklevel=2)
