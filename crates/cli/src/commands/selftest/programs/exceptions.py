# Breaks what ends an interpreter in order: hooks, streams, threads that never end, a message without an end.
import atexit, os, sys, threading


class Endless(Exception):
    def __str__(self):
        while True:
            os.write(2, b'x' * 65536)


sys.excepthook = None
atexit.register(lambda: threading.Event().wait())
threading.Thread(target=threading.Event().wait).start()
sys.stdout.close()
raise Endless
