# A cause chain that loops back must be printed once and end.
a, b = ValueError("a"), TypeError("b")
a.__cause__ = b
b.__cause__ = a
raise a
