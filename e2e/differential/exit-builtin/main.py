# The site builtins exit/quit close stdin and raise SystemExit.
import sys

print(repr(exit), repr(quit), type(exit).__module__, type(exit).__qualname__)
try:
    quit(3)
except SystemExit as exc:
    print(exc.code, sys.stdin.closed)
exit(11)
