# Exceptions out of generators, throw(), and StopIteration turned into RuntimeError.
def gen():
    try:
        yield 1
    except ValueError as exc:
        print("thrown in", exc)
    yield from inner()


def inner():
    yield 2
    raise StopIteration("wrong")


g = gen()
print(next(g), g.throw(ValueError("hello")))
next(g)
