# Reads and maps all that there is, again and again: the kernel keeps it in memory as long as there is some.
import mmap, os

for _ in range(2):
    for directory, _, names in os.walk('/usr'):
        for name in names:
            path = os.path.join(directory, name)
            try:
                with open(path, 'rb') as file:
                    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                        sum(mapped[::4096])
            except (OSError, ValueError):
                pass
print('read')
