# sys.exit with a tuple: SystemExit takes the elements, code is the tuple.
import sys

sys.exit((1, "two", None))
