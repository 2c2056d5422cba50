# Fine-grained caret positions of several expression kinds, and a multi-line call.
import traceback


def run(fn):
    try:
        fn()
    except Exception:
        traceback.print_exc()


a = {"x": None, "y": 0}
run(lambda: a["x"]["z"] + a["y"])
run(lambda: (1 + 2) / (a["y"] * 3))
run(lambda: print(a.missing.more))
run(lambda: int("1") + int("x") + int("2"))
print(
    "multi",
    a["y"],
    a["nope"],
)
