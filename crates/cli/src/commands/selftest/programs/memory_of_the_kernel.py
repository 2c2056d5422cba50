# What the kernel keeps for a process: pipes and sockets filled to their brim, in processes that have descriptors each.
import fcntl, os, resource, socket, time

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def fill():
    kept = []
    try:
        while True:
            reader, writer = os.pipe2(os.O_NONBLOCK)
            try:
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
            except OSError:
                pass
            left, right = socket.socketpair()
            left.setblocking(False)
            kept.append((reader, writer, left, right))
            for write in (lambda: os.write(writer, bytes(1 << 16)), lambda: left.send(bytes(1 << 16))):
                try:
                    while True:
                        write()
                except BlockingIOError:
                    pass
    except OSError:
        time.sleep(60)


for _ in range(63):
    if os.fork() == 0:
        break
fill()
