# The trace of this program's own functions, by event and line.
import sys


def tracer(frame, event, arg):
    print(event, frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno)
    return tracer


def f(n):
    total = 0
    for i in range(n):
        total += i
    return total


sys.settrace(tracer)
f(2)
sys.settrace(None)
print("done")
