# Encodings and locale state, in Python and in C.
import ctypes
import locale
import os
import sys

print(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.getdefaultencoding())
print(locale.getlocale(), locale.getpreferredencoding(), locale.getpreferredencoding(False), locale.getencoding())
for cat in ("LC_CTYPE", "LC_COLLATE", "LC_NUMERIC", "LC_TIME", "LC_MESSAGES", "LC_MONETARY"):
    print(cat, locale.setlocale(getattr(locale, cat)))
print(locale.nl_langinfo(locale.CODESET), locale.localeconv()["decimal_point"], os.fsencode("é"), sys.flags.utf8_mode)
libc = ctypes.CDLL(None)
libc.setlocale.restype = ctypes.c_char_p
print(libc.setlocale(6, None), open(os.devnull).encoding, os.device_encoding(0))
