# More stdin than a pipe holds, never read: the program must still end by itself.
print("done")
