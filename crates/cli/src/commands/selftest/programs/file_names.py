# Says which files it was given, and what they hold.
import os

for directory, _, names in sorted(os.walk('.')):
    for name in sorted(names):
        path = os.path.join(directory, name)
        if name != 'main.py':
            print(ascii(path), open(path).read())
