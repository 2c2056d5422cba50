# The audit events after the last statement of the program, with their order.
import os
import sys

w = os.dup(2)


def hook(event, args):
    os.write(w, event.encode() + b"\n")


sys.addaudithook(hook)
print("end of main")
