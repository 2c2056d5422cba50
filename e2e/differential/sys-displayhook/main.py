# sys.displayhook sets builtins._ and prints repr; nothing has set _ before.
import builtins
import sys

print(hasattr(builtins, "_"))
for src in ("1 + 1", "'text é \\udcff'", "None", "x = 3", "[1, (2,)]"):
    exec(compile(src, "<c>", "single"))
print(builtins._)
sys.displayhook = lambda v: print("mine", v)
exec(compile("[1]\n", "<c>", "single"))
