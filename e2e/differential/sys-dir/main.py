# Every attribute name of the sys module.
import sys

print("\n".join(sorted(vars(sys))))
