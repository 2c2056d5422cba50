# Tracebacks through exec/eval/compiled code, whose source lines are not available.
import traceback

for source, mode in (("x = 1\ny = x / 0\n", "exec"), ("[1, 2][5]", "eval")):
    try:
        if mode == "exec":
            exec(source)
        else:
            eval(compile(source, "made-up-file.py", mode))
    except Exception:
        traceback.print_exc()
exec(compile("def f(x):\n    return x.nope\n\nf(3)\n", "<generated>", "exec"))
