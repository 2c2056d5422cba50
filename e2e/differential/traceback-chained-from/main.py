# `raise ... from` prints both tracebacks with the direct-cause line.
def load(text):
    try:
        return int(text)
    except ValueError as exc:
        raise RuntimeError(f"cannot load {text!r}") from exc


load("twelve")
