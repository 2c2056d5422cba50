# zipimport: a module and package out of a zip file, with a traceback into it.
import sys
import zipfile

with zipfile.ZipFile("lib.zip", "w") as z:
    z.writestr("zipped.py", "def f():\n    raise ValueError('from the zip')\n")
    z.writestr("zpkg/__init__.py", "NAME = __name__\n")
sys.path.insert(0, "lib.zip")
import zipped
import zpkg

print(zpkg.NAME, type(zpkg.__loader__).__name__, zipped.__file__, "zipimport" in sys.modules)
zipped.f()
