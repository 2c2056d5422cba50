# sys.exit with an int beyond 32 bits.
import sys

sys.exit(256 * 3 + 5 + (1 << 40))
