# The code object and frame of main: names, flags, first line, filename, line table.
import hashlib
import sys

f = sys._getframe()
c = f.f_code
print(c.co_name, c.co_qualname, c.co_flags, c.co_firstlineno, c.co_filename == __file__, c.co_stacksize)
print(c.co_names, c.co_nlocals, c.co_freevars)
print(f.f_locals is f.f_globals, f.f_builtins is __builtins__.__dict__, f.f_trace, f.f_lasti > 0)
print(hashlib.sha256(c.co_code).hexdigest()[:16], hashlib.sha256(c.co_linetable).hexdigest()[:16])
