# Leaves something in the tables of the network that outlive its process: a flow label of IPv6, what TCP has measured of a
# connection. Says what it finds in them first.
import socket
import struct

found = []


def metrics():
    # Generic netlink (linux/genetlink.h, linux/tcp_metrics.h): the family's number, then all that it has.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as netlink:
        netlink.settimeout(2)

        def ask(family, flags, command, attributes=b''):
            payload = struct.pack('BBH', command, 1, 0) + attributes
            netlink.send(struct.pack('IHHII', 16 + len(payload), family, flags, 1, 0) + payload)
            return netlink.recv(65536)

        name = b'tcp_metrics\0'
        answer = ask(16, 1, 3, struct.pack('HH', 4 + len(name), 2) + name)
        if struct.unpack_from('H', answer, 4)[0] == 2:
            return []
        at, family = 20, None
        while at < len(answer) and family is None:
            length, kind = struct.unpack_from('HH', answer, at)
            if kind == 1:
                family = struct.unpack_from('H', answer, at + 4)[0]
            at += (length + 3) & ~3
        answer = ask(family, 0x301, 1)
        return ['metrics of TCP'] if struct.unpack_from('H', answer, 4)[0] == family else []


try:
    found += open('/proc/net/ip6_flowlabel').read().splitlines()[1:]
    labels = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    address = b'\x20\x01' + b'left by another'[:14]
    labels.setsockopt(41, 32, struct.pack('=16sIBBHHHI', address, 0, 0, 255, 1, 150, 150, 0))
except OSError:
    pass
found += metrics()
with socket.socket() as listener:
    listener.bind(('127.1.2.3', 0))
    listener.listen()
    with socket.socket() as client:
        client.bind(('127.4.5.6', 0))
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            for _ in range(64):
                client.send(b'x' * 1000)
                accepted.recv(1000)
print(found or 'nothing found')
