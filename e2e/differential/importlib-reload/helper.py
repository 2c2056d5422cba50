COUNT = globals().get("COUNT", 0) + 1
VALUE = "first"
