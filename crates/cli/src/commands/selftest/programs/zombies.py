# Ends with children that nobody has waited for.
import os

for _ in range(300):
    if os.fork() == 0:
        os._exit(0)
print('zombies are left')
