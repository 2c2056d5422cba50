# Closing sys.stdin, then input(): the error and the exit code.
import sys

sys.stdin.close()
try:
    input()
except ValueError as exc:
    print(exc)
sys.stdin = None
try:
    input()
except RuntimeError as exc:
    print(exc)
