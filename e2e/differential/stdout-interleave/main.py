# stdout is block buffered on a pipe, stderr line buffered; both in one run.
import sys

for i in range(5):
    print("out", i)
    print("err", i, file=sys.stderr)
sys.stderr.write("no newline")
