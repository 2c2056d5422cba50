"""Takes the path of a short job, and what the end of the initialised interpreter takes besides."""

import _socket

# Closing the interpreter's socket, for good.
for _ in range(2):
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    ours.send(b"x")
    theirs.recv(1)
    ours.close()
    theirs.close()
# Giving back much memory, files of the image, and the entries in /proc of a process that was looked at.
memory = b"x" * (2 << 20)
del memory
open("/etc/passwd").close()
with open("/proc/self/maps") as maps:
    maps.read()

print("Hello from Python!")
