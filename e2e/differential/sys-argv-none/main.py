# sys.argv, orig_argv and the kernel's command line without arguments.
import sys

print(sys.argv, sys.orig_argv)
print(open("/proc/self/cmdline", "rb").read())
print(open("/proc/self/comm").read().strip())
