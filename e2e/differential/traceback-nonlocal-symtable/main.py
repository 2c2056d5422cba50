# An error of the symbol table pass in main.py.
def f():
    nonlocal missing
    return missing


print("must not be printed")
