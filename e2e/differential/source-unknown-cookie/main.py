# An unknown encoding in the cookie.
# coding: no-such-encoding
print("never")
