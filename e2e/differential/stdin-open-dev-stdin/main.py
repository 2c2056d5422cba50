# open('/dev/stdin') and /proc/self/fd/0 reopen the same pipe.
for path, mode in (("/dev/stdin", "r"), ("/proc/self/fd/0", "rb"), ("/dev/fd/0", "r")):
    try:
        with open(path, mode) as f:
            print(repr(f.readline()), f.name, getattr(f, "encoding", None))
            print(repr(f.read()))
    except OSError as exc:
        print(exc)
