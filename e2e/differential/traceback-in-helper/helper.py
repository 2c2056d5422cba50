def call(fn, *args):
    return fn(*args)
