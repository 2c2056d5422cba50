# Says what it was given.
import sys

print(ascii(sys.argv[1:]))
