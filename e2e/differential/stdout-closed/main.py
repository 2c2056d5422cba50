# print after sys.stdout.close().
import sys

print("before")
sys.stdout.close()
try:
    print("after")
except ValueError as exc:
    print(exc, file=sys.stderr)
sys.exit(2)
