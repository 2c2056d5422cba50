# A broad sample of the standard library imports, in order, with no output of its own.
import sys

before = set(sys.modules)
names = "abc array ast base64 bisect calendar csv datetime decimal difflib email enum fractions functools glob gzip hashlib heapq hmac html io itertools json logging math operator pathlib pprint queue re secrets shlex statistics string struct textwrap typing zlib".split()
for n in names:
    __import__(n)
print(len(names), len(set(sys.modules) - before) > 60)
print(sorted(set(sys.modules) - before))
