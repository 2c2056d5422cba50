import alpha

NAME = "beta"


def seen_alpha():
    return hasattr(alpha, "SEEN")
