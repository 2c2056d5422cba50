# Listens on a port and leaves a connection behind, in the state that outlives its process; and says whether it finds one.
import socket

found = len(open('/proc/net/tcp').read().splitlines()) - 1
listener = socket.socket()
listener.bind(('127.0.0.1', 8000))
listener.listen()
client = socket.create_connection(('127.0.0.1', 8000))
accepted, _ = listener.accept()
accepted.close()
client.close()
print(f'{found} found')
