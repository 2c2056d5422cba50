# Network interfaces, a refused connection, and name resolution without a network.
import socket

print([n for _, n in socket.if_nameindex() if n == "lo"])
s = socket.socket()
s.settimeout(2)
print(s.connect_ex(("127.0.0.1", 1)) != 0, socket.getdefaulttimeout(), s.get_inheritable())
a, b = socket.socketpair()
a.sendall(b"x")
print(b.recv(1), socket.inet_aton("127.0.0.1"))
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
except OSError as exc:
    print(exc)
