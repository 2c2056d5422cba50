# All attributes of the three streams and their layers.
import sys

for name in ("stdin", "stdout", "stderr"):
    s = getattr(sys, name)
    print(s is getattr(sys, f"__{name}__"), repr(s), s.name, s.mode, s.encoding, s.errors)
    print(" ", s.line_buffering, s.write_through, s.isatty(), s.fileno(), s.closed, s.newlines)
    print(" ", s._CHUNK_SIZE, s.buffer, s.buffer.raw, s.buffer.raw.closefd, s.buffer.raw._blksize)
    print(" ", s.readable(), s.writable(), s.seekable(), type(s).__name__, type(s.buffer).__name__)
    try:
        s.buffer.tell()
    except OSError as exc:
        print(" ", exc)
