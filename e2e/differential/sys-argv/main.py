# sys.argv and sys.orig_argv with arguments: spaces, quotes, empty, unicode, dashes.
import sys

print(sys.argv)
print(sys.orig_argv[1:], len(sys.orig_argv), sys.orig_argv[0].rsplit("/", 1)[-1])
print(open("/proc/self/cmdline", "rb").read().split(b"\0")[1:])
