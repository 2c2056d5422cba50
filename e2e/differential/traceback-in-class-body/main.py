# Exceptions in a class body, a decorator, __set_name__ and a metaclass.
import traceback


class Desc:
    def __set_name__(self, owner, name):
        raise TypeError(f"bad name {name}")


try:
    class A:
        d = Desc()
except Exception:
    traceback.print_exc()


def deco(fn):
    raise RuntimeError("decorator")


@deco
def f():
    pass
