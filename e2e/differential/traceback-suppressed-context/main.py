# `from None` hides the context; the context object itself stays.
try:
    try:
        {}["k"]
    except KeyError:
        raise ValueError("no context shown") from None
except ValueError as exc:
    print(type(exc.__context__).__name__, exc.__cause__, exc.__suppress_context__)
    raise
