# Nobody starts a post-mortem debugger on an uncaught exception, even with input waiting on stdin.
import sys

print("pdb" in sys.modules, "bdb" in sys.modules)
raise ValueError("no debugger please")
