# Helpers, packages, namespace packages, relative and circular imports.
import os
import sys

import alpha
import ns.part
from pkg import sub, VALUE
from pkg.sub import up

print(alpha.beta.NAME, ns.part.WHERE, VALUE, sub.__name__, up())
job = os.getcwd()
for n in ("alpha", "beta", "ns", "ns.part", "pkg", "pkg.sub"):
    m = sys.modules[n]
    print(n, (getattr(m, "__file__", None) or "none").replace(job, "<job>"), m.__package__, type(m.__loader__).__name__, (m.__spec__.cached or "none").replace(job, "<job>"))
print(list(ns.__path__)[0].replace(job, "<job>"), alpha.SEEN)
from beta import missing
