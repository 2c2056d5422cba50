# Non-ASCII identifiers and messages in a traceback, full-width carets.
def größe(länge, 変数):
    return länge.ähnlich + 変数


class Fehler(Exception):
    pass


try:
    größe("漢字", 1)
except AttributeError as exc:
    raise Fehler("Größe 漢字 \U0001f389 \udc80") from exc
