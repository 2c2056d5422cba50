# Deep recursion through C code (repr of nested lists, json, sort keys) ends in RecursionError.
import json

x = []
for _ in range(100000):
    x = [x]
for fn in (repr, json.dumps, lambda v: v == [v[0]] and hash(tuple(v))):
    try:
        fn(x)
    except (RecursionError, TypeError) as exc:
        print(type(exc).__name__, str(exc)[:60])
while x:
    x = x[0]
print("freed")
