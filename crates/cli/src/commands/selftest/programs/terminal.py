# Looks for a terminal, makes one of its own, and types into what is not its own.
import fcntl, os, pty, termios

said = []
for path in ('/dev/tty', '/dev/console', '/dev/pts/0'):
    try:
        said.append(f'{path}: {os.open(path, os.O_RDWR)}')
    except OSError as error:
        said.append(f'{path}: {os.strerror(error.errno)}')
said.append([os.isatty(number) for number in range(3)])
pairs = 0
try:
    while pairs < 2000:
        main, other = pty.openpty()
        pairs += 1
except OSError:
    pass
try:
    fcntl.ioctl(0, termios.TIOCSTI, b'x')
    said.append('typed')
except OSError:
    said.append('could not type')
print(said)
