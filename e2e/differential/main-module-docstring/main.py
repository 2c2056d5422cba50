"""The docstring of main is this text, and it is what the program looks at."""
print(repr(__doc__))
print(list(globals())[:4])
help_text = __import__("__main__").__doc__
print(help_text is __doc__)
