# SystemExit passes through finally blocks; a finally's own exit wins.
import sys


def f():
    try:
        sys.exit(3)
    finally:
        print("finally one")


try:
    f()
finally:
    print("finally two")
    sys.exit(5)
