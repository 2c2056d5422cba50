# Floods the one network device that there is, from many sockets.
import os, socket, time

receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(('127.0.0.1', 0))
for _ in range(16):
    if os.fork() == 0:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
        while True:
            try:
                sender.sendto(bytes(60_000), receiver.getsockname())
            except OSError:
                pass
connections = []
listener = socket.create_server(('127.0.0.1', 0), backlog=4096)
listener.setblocking(False)
while True:
    try:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        connections.append(one)
    except OSError:
        connections.clear()
