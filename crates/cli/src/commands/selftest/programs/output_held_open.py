# Puts both ends of a socket pair, with the program's output, into the pair itself: so they stay open without a process.
import os, socket, sys

a, b = socket.socketpair()
socket.send_fds(a, [b'x'], [a.fileno(), b.fileno(), 1, 2])
socket.send_fds(b, [b'x'], [a.fileno(), b.fileno(), 1, 2])
os.write(1, b'said\n')
os._exit(4)
