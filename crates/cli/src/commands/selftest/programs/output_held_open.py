# Puts both ends of a socket pair, with the program's output, into the pair itself: so they stay open without a process.
# With something to read, a child has them as well.
import os, socket, sys, time

a, b = socket.socketpair()
socket.send_fds(a, [b'x'], [a.fileno(), b.fileno(), 1, 2])
socket.send_fds(b, [b'x'], [a.fileno(), b.fileno(), 1, 2])
os.write(1, b'said\n')
if sys.stdin.read() and os.fork() == 0:
    time.sleep(60)
os._exit(4)
