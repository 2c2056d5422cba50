# sys.exit while handling an exception shows no traceback.
import sys

try:
    1 / 0
except ZeroDivisionError:
    sys.exit(8)
