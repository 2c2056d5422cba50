# sys.exit with a string: on stderr, exit code 1, after what stdout had.
import sys

print("on stdout")
sys.stderr.write("no newline yet|")
sys.exit("goodbye é \udcff")
