# open(0) reads stdin and closes fd 0; sys.stdin then fails.
import sys

with open(0, "rb") as f:
    print(f.read())
try:
    sys.stdin.read()
except OSError as exc:
    print(exc)
