# Errors of the compiler (not of the parser) in main.py: 'return' outside function.
print("must not be printed")
if True:
    return 3
