# __del__ at interpreter shutdown: order, what is still usable, sys.is_finalizing.
import sys


class D:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("del", self.name, sys is not None and sys.is_finalizing(), D is not None)


a = D("a")
b = D("b")
_private = D("_private")
a.cycle = a
lst = [D("in list")]
D.attr = D("on class")
print("end")
