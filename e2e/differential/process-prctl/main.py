# prctl values: dumpable, pdeathsig, name, no_new_privs, seccomp, subreaper, keepcaps, securebits, timer slack, personality.
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for name, op in (("dumpable", 3), ("keepcaps", 7), ("timing", 13), ("seccomp", 21), ("securebits", 27), ("timerslack", 30), ("mce", 34), ("nnp", 39), ("thp", 42), ("io_flusher", 58)):
    print(name, libc.prctl(op, 0, 0, 0, 0))
out = ctypes.c_int(-1)
for name, op in (("pdeathsig", 2), ("unalign", 5), ("endian", 19), ("tsc", 25), ("subreaper", 37)):
    print(name, libc.prctl(op, ctypes.byref(out), 0, 0, 0), out.value)
buf = ctypes.create_string_buffer(16)
libc.prctl(16, buf)
print(buf.value, libc.personality(0xFFFFFFFF))
print([libc.prctl(47, 1, cap, 0, 0) for cap in range(3)])
ss = (ctypes.c_ulong * 3)()
print(libc.sigaltstack(None, ss), ss[0] == 0, ss[1] & 0xFFFFFFFF)
