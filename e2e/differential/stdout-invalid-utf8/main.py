# Raw bytes that are not UTF-8, NUL included, on both outputs.
import sys

sys.stdout.buffer.write(bytes(range(256)) + b"\xff\xfe\xc3(\xf0\x9f")
sys.stderr.buffer.write(b"\x00\x80\xc0\n")
