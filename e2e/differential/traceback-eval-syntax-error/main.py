# SyntaxErrors from eval/compile/int: offsets and carets, uncaught at the end.
import traceback

for src in ("1 +", "f(a b)", "'unclosed", "x = = 1", "(1, 2"):
    try:
        compile(src, "<snippet>", "exec")
    except SyntaxError as exc:
        print(exc.msg, exc.lineno, exc.offset, exc.end_lineno, exc.end_offset)
        traceback.print_exc(limit=0)
eval("a ? b")
