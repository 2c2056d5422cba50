# Module globals at teardown: helper and main modules, names with and without underscore, open() gone or not.
import helper


class D:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print(self.name, __name__, sorted(n for n in globals() if not n.startswith("__")) != [])


x = D("main x")
helper.x = D("helper x")
helper.fn.attr = D("on function")
import sys

sys.custom = D("on sys")
__builtins__.custom = D("on builtins")
