# The stack below main is empty: print_stack/extract_stack/sys._getframe see only this program.
import inspect
import sys
import traceback


def f():
    traceback.print_stack()
    return [(s.name, s.lineno) for s in traceback.extract_stack()]


print(f())
frame = sys._getframe()
print(frame.f_back, frame.f_code.co_name, frame.f_lineno, len(inspect.stack()))
try:
    sys._getframe(1)
except ValueError as exc:
    print(exc)
