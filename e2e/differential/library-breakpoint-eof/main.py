# breakpoint() with an empty stdin: pdb quits with BdbQuit.
def f():
    secret = 1
    breakpoint()
    return secret


print("before")
f()
print("after")
