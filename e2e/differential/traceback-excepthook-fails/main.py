# A failing excepthook: "Error in sys.excepthook" and "Original exception was".
import sys


def hook(*args):
    raise RuntimeError("hook failed")


sys.excepthook = hook
{}["original"]
