# SyntaxWarnings and escapes found while main.py itself is compiled.
x = 5
if x is 5:
    print("is")
print("\d"[0] == "\\", (1, 2) == (1, 2))
assert (x, "always true")
