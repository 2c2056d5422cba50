# Closes its streams, and writes to what was there by other ways.
import os

kept = os.dup(1)
os.close(1)
os.close(2)
os.close(0)
os.write(kept, b'by another descriptor\n')
for path in ('/dev/stdout', f'/proc/self/fd/{kept}'):
    try:
        with open(path, 'wb', buffering=0) as again:
            again.write(b'by a path\n')
    except OSError:
        pass
