# Leaves a listener at the end of a chain of sockets, each in flight in itself and holding the one before: the kernel frees one
# link at a time. Whoever runs next finds neither the port taken nor the names.
import array, os, socket

names = [line for line in open('/proc/net/unix') if 'chain' in line]
listener = socket.socket()
listener.bind(('127.0.0.1', 5000))
listener.listen()
print(f'{len(names)} names are left', flush=True)
link = listener
for number in range(200):
    following = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    following.bind(f'\0chain {number}')
    following.connect(following.getsockname())
    held = array.array('i', [following.fileno(), link.fileno()])
    following.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)])
    link.close()
    link = following
os._exit(0)
