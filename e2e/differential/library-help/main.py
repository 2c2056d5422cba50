# help() and the license printers without a terminal.
def documented(a, b=1):
    """The docstring."""


help(documented)
print(repr(help))
credits()
