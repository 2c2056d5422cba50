# Falling off the end after sys.exit() inside try/else; no argument means 0.
import sys

try:
    sys.exit()
except SystemExit as exc:
    print(repr(exc), exc.code)
sys.exit()
