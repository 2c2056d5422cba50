# RecursionError at top level: the "[Previous line repeated N more times]" count shows the frames below main.
def down(n):
    return down(n + 1)


down(0)
