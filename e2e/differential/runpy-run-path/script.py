import sys

RESULT = (__name__, sys.argv[0].rsplit("/", 1)[-1], sys.modules[__name__].__dict__ is globals() if __name__ in sys.modules else None)
if __name__ == "__main__":
    print("script as main")
