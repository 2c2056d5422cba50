# Takes memory and writes to it, until there is none.
taken = []
while True:
    taken.append(b'x' * (1 << 20))
