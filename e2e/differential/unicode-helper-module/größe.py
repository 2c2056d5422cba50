wert = "ß"


def fehler():
    raise ValueError("aus größe")
