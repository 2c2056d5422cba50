# tempfile places and cleanup, HOME, pathlib.
import os
import pathlib
import tempfile

print(tempfile.gettempdir(), tempfile.gettempprefix(), pathlib.Path.home(), os.path.expanduser("~/x"))
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d, "f.txt")
    p.write_text("é")
    print(p.read_bytes(), oct(os.stat(d).st_mode), oct(p.stat().st_mode))
print(os.path.exists(d))
with tempfile.NamedTemporaryFile(dir=".") as f:
    print(oct(os.stat(f.name).st_mode), os.path.dirname(f.name) == os.getcwd())
left = tempfile.mkdtemp(dir=".", prefix="left-")
print(len([n for n in os.listdir(".") if n.startswith("left-")]))
