# Uses every virtual processor up, with more processes than there are of them, at the best priority that it may have.
import os

for _ in range(4 * os.cpu_count()):
    if os.fork() == 0:
        break
while True:
    pass
