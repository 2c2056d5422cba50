# reconfigure of encoding, errors, newline, line_buffering.
import os
import sys

sys.stdout.reconfigure(encoding="latin-1", errors="backslashreplace")
print("é€", sys.stdout.encoding, sys.stdout.errors)
sys.stdout.reconfigure(encoding="utf-8", newline="\r\n")
print("crlf")
sys.stdout.reconfigure(newline="\n", line_buffering=True)
print("line", sys.stdout.line_buffering)
os.write(1, b"after line\n")
sys.stdout.reconfigure(line_buffering=False, write_through=True)
print("through", end="")
os.write(1, b"!\n")
