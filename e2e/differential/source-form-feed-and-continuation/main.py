# Form feeds, backslash continuation and a semicolon line keep their line numbers.

x = 1 + \
    2; y = 3
print(x, y)
print((x +
       y) / 0)
