# Everyday modules: json, csv, re, datetime, collections, itertools, textwrap; same output.
import collections
import csv
import datetime
import itertools
import json
import re
import sys
import textwrap

print(json.dumps({"a": [1, 2.5, None, True], "é": "\u2028"}, indent=1, sort_keys=True, ensure_ascii=False))
csv.writer(sys.stdout).writerows([["a", 'b"c', "d,e"], [1, None, 2.5]])
print(re.findall(r"(\w+)=(\d+)", "a=1, b=22"), re.sub(r"\b(\w)", lambda m: m[1].upper(), "hello there"))
print(datetime.datetime(2024, 2, 29, 12).isoformat(), datetime.date(2024, 1, 1).strftime("%A %B"), datetime.datetime.fromtimestamp(0))
print(collections.Counter("abracadabra").most_common(2), list(itertools.accumulate(range(6))))
print(textwrap.fill("word " * 30, 40))
