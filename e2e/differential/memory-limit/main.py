# An allocation beyond the address space or the machine fails or is refused the same way.
import resource

resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
try:
    print(len(bytes(1 << 46)))
except MemoryError as exc:
    print("MemoryError", exc)
x = bytearray(32 << 20)
x[::4096] = b"x" * len(x[::4096])
print(len(x), x.count(b"x"))
