# importlib.reload picks up a changed helper; the counter survives.
import importlib
import os

import helper

print(helper.VALUE, helper.COUNT)
with open("helper.py", "a") as f:
    f.write("VALUE = 'changed text'\n")
print(importlib.reload(helper) is helper, helper.VALUE, helper.COUNT)
os.remove("helper.py")
importlib.reload(helper)
