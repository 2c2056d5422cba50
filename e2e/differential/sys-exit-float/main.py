# sys.exit with a float and bool conversions.
import sys

try:
    sys.exit(True)
except SystemExit as exc:
    print(repr(exc.code))
sys.exit(2.5)
