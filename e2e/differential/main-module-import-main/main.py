# `import __main__` gives this module; `import main` runs the file a second time.
import sys

import __main__

print(__main__ is sys.modules["__main__"], __main__.__dict__ is globals(), __name__)
if __name__ == "__main__":
    import main

    print(main is __main__, main.__name__, main.__cached__.rsplit("/", 2)[1:], main.__spec__.name)
    print(sorted(set(vars(main)) - set(globals())))
else:
    print("as module", __spec__ is not None)
