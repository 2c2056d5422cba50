# breakpoint() with commands on stdin: where shows nothing below main.
def f():
    secret = 17
    breakpoint()
    return secret


print(f())
