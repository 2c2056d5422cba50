# Notes of add_note follow the message; a non-list __notes__ is shown by its repr.
try:
    try:
        raise ValueError("noted")
    except ValueError as exc:
        exc.add_note("first note")
        exc.add_note("second\nwith two lines é")
        raise
except ValueError as exc:
    new = KeyError("odd notes")
    new.__notes__ = 17
    raise new
