# Leaves something wherever it may, and says what it finds of an earlier execution.
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
found = []
for directory, _, files in os.walk('/', onerror=None):
    if directory.startswith(('/proc', '/sys', '/dev/pts', os.getcwd())):
        continue
    if 'leaked' in files:
        found.append(directory)
    try:
        open(directory + '/leaked', 'w').close()
    except OSError:
        pass
key = libc.syscall(248, b'user', b'leaked', b'x', 1, -4)
queue = libc.mq_open(b'/leaked', os.O_CREAT | os.O_RDWR, 0o600, None)
shared = libc.shmget(0x1ea, 4096, 0o600)
libc.shmget(0x1ea, 4096, 0o1600)
semaphore = libc.semget(0x1ea, 1, 0o1600)
messages = libc.msgget(0x1ea, 0o1600)
others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid(), os.getppid())]
environment = sorted(name for name in os.environ if name not in ('PATH', 'LANG', 'HOME', 'LC_CTYPE', 'PYTHONUNBUFFERED'))
print(found, key, queue, shared, semaphore, messages, environment)
