# assert is active, __debug__ is true, the message may be a tuple.
print(__debug__)
try:
    assert False, ("a", 1)
except AssertionError as exc:
    print(exc.args)
assert 1 + 1 == 3, "arithmetic"
