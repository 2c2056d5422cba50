# stdin as seen by select/poll: readable at once (content and then EOF).
import os
import select

print(select.select([0], [], [], 10)[0])
print(os.read(0, 100))
p = select.poll()
p.register(0, select.POLLIN)
print(bool(p.poll(10000)), os.read(0, 100))
