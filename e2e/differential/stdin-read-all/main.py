# sys.stdin.read() decodes UTF-8 and translates newlines.
import sys

text = sys.stdin.read()
print(ascii(text), sys.stdin.newlines, repr(sys.stdin.read()))
