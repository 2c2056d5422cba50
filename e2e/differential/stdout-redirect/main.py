# contextlib.redirect_stdout/stderr and restoring sys.__stdout__.
import contextlib
import io
import sys

out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    print("captured")
    print("captured err", file=sys.stderr)
print(repr(out.getvalue()), repr(err.getvalue()))
sys.stdout = sys.__stdout__
print("fine")
