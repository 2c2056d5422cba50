"""Brings what programs commonly use into the guest's page cache, before the snapshot is taken."""

import asyncio
import base64
import binascii
import collections
import contextlib
import copy
import csv
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import heapq
import inspect
import io
import itertools
import json
import logging
import math
import operator
import os
import pathlib
import pprint
import queue
import random
import re
import shutil
import statistics
import string
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import typing
import unittest
import uuid


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = 1


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def numbers():
    total = sum(i * i for i in range(2000))
    return total, fibonacci(12), math.sqrt(2), decimal.Decimal("0.1") + 1, fractions.Fraction(1, 3), statistics.mean([1, 2])


def texts():
    text = json.dumps({"users": [{"name": "Alice"}, {"name": "Bob"}]}, indent=2)
    json.loads(text)
    re.findall(r"(\w+)@(\w+)\.com", "alice@example.com, bob@example.com")
    list(csv.reader(io.StringIO("a,b\n1,2\n")))
    return textwrap.fill(text, 40), pprint.pformat({"a": [1, 2]}), string.ascii_letters, f"{math.pi:.3f}"


def objects():
    collections.Counter("hello").most_common(1)
    collections.defaultdict(list)["a"].append(1)
    heapq.nsmallest(2, [3, 1, 2])
    functools.lru_cache(fibonacci)(5)
    list(itertools.permutations(range(3)))
    sorted([Point(2), Point(1)], key=operator.attrgetter("x"))
    return copy.deepcopy(Point(1)), Colour.RED, typing.get_type_hints(Point), inspect.signature(fibonacci)


def system():
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "file.txt")
        path.write_text("Hello, File!\n")
        shutil.copy(path, path.with_suffix(".copy"))
        os.listdir(directory)
    hashlib.sha256(b"x").hexdigest()
    base64.b64encode(binascii.unhexlify(b"00"))
    struct.pack(">I", 1)
    thread = threading.Thread(target=queue.Queue().put, args=(1,))
    thread.start()
    thread.join()
    subprocess.run([sys.executable, "-c", "import sys; print(sys.version)"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run("true", shell=True, check=True)


def errors():
    with contextlib.redirect_stderr(io.StringIO()):
        for program in ("[1, 2, 3][10]", "import no_such_module", "print('Hello'"):
            try:
                exec(compile(program, "main.py", "exec"), {})
            except Exception:
                traceback.print_exc()
        logging.getLogger("warm-up").warning("warm")


def main():
    name = sys.stdin.readline().strip()
    print(f"Hello, {name}!", numbers(), texts(), objects(), random.random(), uuid.uuid4())
    print(datetime.datetime.now(), time.time(), file=sys.stderr)
    system()
    errors()
    asyncio.run(asyncio.sleep(0))
    unittest.TestSuite()


main()
