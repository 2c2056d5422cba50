# Both streams at once, and more of them than is kept.
import os

if os.fork():
    stream, letter = 1, b'o'
else:
    stream, letter = 2, b'e'
for _ in range(64):
    os.write(stream, letter * (1 << 18))
if stream == 1:
    os.wait()
else:
    os._exit(0)
