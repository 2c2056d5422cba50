# code.interact fed by stdin: results, an exception, a syntax error, EOF.
import code
import sys

sys.ps1, sys.ps2 = "P1 ", "P2 "
code.interact(local={"x": 41}, banner="")
