# The frames of an uncaught exception keep locals alive until the very end.
class D:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("del", self.name)


def f():
    local = D("local of the failing frame")
    raise ValueError("boom")


g = D("global")
f()
