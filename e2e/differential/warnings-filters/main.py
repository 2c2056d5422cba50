# The default warning filters and the state of the warnings module.
import sys
import warnings

for f in warnings.filters:
    print(f[0], f[1] and f[1].pattern, f[2].__name__, f[3] if isinstance(f[3], str) or f[3] is None else f[3].pattern, f[4])
print(warnings.defaultaction, warnings.onceregistry, "__warningregistry__" in globals(), warnings._filters_mutated.__module__)
print(warnings.showwarning is warnings._showwarning_orig, sys.warnoptions)
