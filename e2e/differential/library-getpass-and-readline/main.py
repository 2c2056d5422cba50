# getpass without a terminal falls back to stdin with a warning; readline and rlcompleter are not loaded.
import sys

print([n for n in ("readline", "rlcompleter", "pydoc", "tty", "termios") if n in sys.modules])
import getpass

print(getpass.getuser(), flush=True)
print(repr(getpass.getpass("Secret: ")))
