# `from __future__` in main, co_flags, eval inheriting, and dis of a fresh function.
from __future__ import annotations

import __future__
import dis


def f(x: undefined_name) -> also_undefined:
    return x + 1


print(f.__annotations__, f.__code__.co_flags & __future__.annotations.compiler_flag != 0)
print([i.opname for i in dis.get_instructions(f)])
print([i.opname for i in dis.get_instructions(f, adaptive=True)])
print(eval(compile("1 + 1", "<s>", "eval", flags=0)))
