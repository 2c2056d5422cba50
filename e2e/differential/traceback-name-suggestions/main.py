# "Did you mean" hints for names and attributes of builtins and modules.
import sys

for src in ("pritn(1)", "import os; os.pth", "'x'.uper()", "lenn([])", "time.sleep"):
    try:
        exec(src, {})
    except Exception:
        sys.excepthook(*sys.exc_info())
import json

json.dump_s
