# os.read(0): nothing of stdin may have been consumed before.
import os

data = b""
while chunk := os.read(0, 7):
    data += chunk
print(data)
