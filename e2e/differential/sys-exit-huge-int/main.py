# sys.exit with an int beyond 64 bits.
import sys

sys.exit(1 << 100)
