# A DeprecationWarning in __main__ is shown once per place, in a helper it is not.
import warnings

import helper


def f():
    warnings.warn("old in main", DeprecationWarning)


f()
f()
helper.f()
warnings.warn("user", UserWarning)
warnings.warn("to the caller", FutureWarning, stacklevel=2)
print(sorted(k[1].__name__ for k in __warningregistry__ if k != "version"))
