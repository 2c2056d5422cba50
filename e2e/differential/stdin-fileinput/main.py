# fileinput with no arguments reads stdin; with - too.
import fileinput
import sys

for line in fileinput.input():
    print(fileinput.filename(), fileinput.lineno(), fileinput.isstdin(), repr(line))
print(sys.argv[1:])
