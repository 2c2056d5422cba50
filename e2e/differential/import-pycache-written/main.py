# __pycache__ is written for helpers, not for main, and is used on the next import.
import importlib.util
import os
import sys

print(os.path.exists("__pycache__"))
import helper

print(sorted(os.listdir("__pycache__")), helper.__cached__.rsplit("/", 1)[1], os.path.exists(helper.__cached__))
data = open(helper.__cached__, "rb").read(16)
print(data[:4] == importlib.util.MAGIC_NUMBER, int.from_bytes(data[12:], "little") == os.stat("helper.py").st_size)
print(oct(os.stat(helper.__cached__).st_mode), importlib.util.cache_from_source("x.py"), sys.dont_write_bytecode)
