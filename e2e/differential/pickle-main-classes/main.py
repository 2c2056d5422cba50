# Classes and functions of __main__ are pickled by reference to __main__.
import copy
import enum
import pickle
import pickletools
from dataclasses import asdict, dataclass, field, replace


@dataclass(order=True)
class Point:
    x: int
    y: int = 0
    tags: list = field(default_factory=list)


class Colour(enum.Enum):
    RED = 1


def fn():
    return "fn"


data = pickle.dumps([Point(1, 2, ["a"]), Colour.RED, fn], protocol=4)
print([str(arg) for op, arg, pos in pickletools.genops(data) if isinstance(arg, str)])
p, c, f = pickle.loads(data)
print(p, c is Colour.RED, f is fn, f(), Point.__module__, fn.__module__)
print(asdict(replace(p, y=9)), Point(1) < Point(2), copy.deepcopy(p) == p)
try:
    pickle.dumps(lambda: 0)
except pickle.PicklingError as exc:
    print("attribute lookup <lambda> on __main__ failed" in str(exc))
pickle.loads(data.replace(b"Colour", b"Coluor"))
