# An uncaught exception through three frames: same lines, carets and exit code 1.
def inner(d, k):
    return d[k] + d["other"]["deep"][k]


def outer(d):
    return inner(d, "a") * 2


print("before")
outer({"a": 1, "other": {"deep": {}}})
print("never")
