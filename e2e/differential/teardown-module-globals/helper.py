def fn():
    pass
