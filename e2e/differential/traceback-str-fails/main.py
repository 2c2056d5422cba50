# An exception whose __str__ fails is shown as <exception str() failed>.
class Odd(Exception):
    def __str__(self):
        raise TypeError("no string")


class Multi(Exception):
    def __str__(self):
        return "line one\nline two"


try:
    raise Multi
except Multi:
    raise Odd("x")
