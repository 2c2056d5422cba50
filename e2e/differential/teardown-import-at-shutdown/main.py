# Imports and opens in __del__ at shutdown: the same ones work or fail.
class D:
    def __del__(self):
        for what in ("import os", "import json", "open('/dev/null').close()", "import threading; threading.Thread(target=print).start()"):
            try:
                exec(what, {"__builtins__": b})
                print(what, "ok")
            except BaseException as exc:
                print(what, type(exc).__name__, exc)


b = __builtins__
d = D()
d.self = d
print("end")
