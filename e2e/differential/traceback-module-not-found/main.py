# ModuleNotFoundError for a plain, a dotted and a from import, the last one uncaught.
import sys

for name in ("nothing_here", "os.nothing", "json.nothing"):
    try:
        __import__(name)
    except ModuleNotFoundError as exc:
        print(exc, exc.name, exc.path)
from json import nothing_like_this
