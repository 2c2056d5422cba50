# sys.exit(7).
import sys

print("seven")
sys.exit(7)
