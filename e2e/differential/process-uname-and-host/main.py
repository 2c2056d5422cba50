# uname, host name, boot-independent kernel settings.
import os
import platform
import socket

u = os.uname()
print(u.sysname, u.nodename, u.machine, socket.gethostname() == u.nodename, platform.python_implementation())
print(platform.python_version(), platform.python_compiler().split()[0], platform.libc_ver())
