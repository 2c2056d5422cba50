# Nested ExceptionGroups, uncaught: the tree drawing on stderr.
def one():
    raise ValueError("one")


def two():
    raise ExceptionGroup("inner", [TypeError("two"), KeyError("three")])


errors = []
for fn in (one, two):
    try:
        fn()
    except Exception as exc:
        errors.append(exc)
try:
    raise ExceptionGroup("outer", errors)
except* KeyError as group:
    print("handled", group.exceptions[0].message)
