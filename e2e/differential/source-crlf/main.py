# Windows line ends in main.py, also inside a string and before a traceback.
text = """a
b"""
print(repr(text))
if True:
    raise ValueError("crlf")
