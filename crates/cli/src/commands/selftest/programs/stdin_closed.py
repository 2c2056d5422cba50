# Closes its stdin, and opens another in its place.
import os

os.close(0)
print(os.open('/dev/null', os.O_RDONLY), os.read(0, 1))
