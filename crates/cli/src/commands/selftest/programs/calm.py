# What runs after an attack, in the same microVM: all is as if nothing had been there before.
import os

processes = [name for name in os.listdir('/proc') if name.isdigit()]
left = sorted(os.listdir('/tmp') + os.listdir('/var/tmp') + os.listdir('/dev/shm'))
print(f'{len(processes)} processes')
print(f'{[name[:4] for name in left]} in the scratch directories, {os.listdir()} here')
print(f'{os.statvfs("/tmp").f_ffree > 60_000} inodes, {os.statvfs("/tmp").f_bfree * 4096 > 100 << 20} room')
print(f'{len(bytes(64 << 20)) >> 20} MiB of memory, {input()} from stdin')
