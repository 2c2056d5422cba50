# A subinterpreter starts from its own state: modules and path as in the plain run.
import _xxsubinterpreters as sub
import os

i = sub.create()
sub.run_string(i, "import sys; print(sorted(sys.modules)); print(sys.argv, len(sys.path), flush=True)")
r, w = os.pipe()
sub.run_string(i, f"import os; os.write({w}, repr([p for p in sys.path if not p.startswith('/tmp')]).encode())")
print(os.read(r, 4000).decode())
sub.destroy(i)
print(len(sub.list_all()), sub.get_main() == sub.get_current())
