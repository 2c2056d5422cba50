from . import NAME


def fail(arg):
    raise OSError(2, "made up", f"{NAME}/{arg}")
