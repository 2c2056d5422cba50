# Mutual recursion is not collapsed when frames alternate; count its lines instead of printing them.
import io
import traceback


def ping(n):
    return pong(n + 1)


def pong(n):
    return ping(n + 1)


try:
    ping(0)
except RecursionError as exc:
    buf = io.StringIO()
    traceback.print_exc(file=buf)
    print(exc, len(buf.getvalue().splitlines()), len(traceback.extract_tb(exc.__traceback__)))
