# Reads nothing of what it is given.
print('did not read')
