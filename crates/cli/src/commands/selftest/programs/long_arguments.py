# Counts what it was given.
import sys

print([len(argument) for argument in sys.argv[1:]])
