# \r\n and \r line ends in text mode, and with newline='' after reconfigure.
import sys

sys.stdin.reconfigure(newline="")
print(repr(sys.stdin.readline()), repr(sys.stdin.readline()))
try:
    sys.stdin.reconfigure(newline=None)
except OSError as exc:
    print(exc)
print(repr(sys.stdin.read()), sys.stdin.newlines)
