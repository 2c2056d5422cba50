# An exception raised while handling another one: the "During handling" text.
def cleanup():
    return {}["missing"]


try:
    1 / 0
except ZeroDivisionError:
    try:
        cleanup()
    finally:
        [].pop()
