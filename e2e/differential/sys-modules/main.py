# The sorted list of loaded modules before the program imports anything else, and their load order.
import sys

print("\n".join(sorted(sys.modules)))
print(list(sys.modules))
