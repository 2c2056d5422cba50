# Generators, coroutines and async generators left open at exit.
import sys


def gen(name):
    try:
        yield 1
    finally:
        print("closing", name)


async def coro():
    pass


g = gen("global")
next(g)
h = gen("never started")
c = coro()
sys.stdout.flush()
print("end")
