# sys.stderr replaced by a program's object receives the traceback.
import sys


class Upper:
    def write(self, text):
        sys.stdout.write(text.upper())

    def flush(self):
        pass


sys.stderr = Upper()
raise ValueError("to the object")
