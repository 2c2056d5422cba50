# Profile events (Python and C) until the interpreter ends.
import os
import sys


def prof(frame, event, arg):
    name = arg.__name__ if event.startswith("c_") else frame.f_code.co_name
    os.write(1, f"{event} {name}\n".encode())


def f(x):
    return len(x) + abs(-1)


sys.setprofile(prof)
f("abc")
