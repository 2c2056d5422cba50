# A program's own excepthook replaces the report; sys.__excepthook__ still works.
import sys


def hook(tp, value, tb):
    print("hook:", tp.__name__, value, tb.tb_lineno)
    sys.__excepthook__(tp, value, tb)


print(sys.excepthook is sys.__excepthook__)
sys.excepthook = hook
raise UserWarning("to the hook")
