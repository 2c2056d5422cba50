# Text, buffer and raw layers of stdout mixed.
import sys

print("text")
sys.stdout.buffer.write(b"buffer\n")
sys.stdout.flush()
print(sys.stdout.buffer.raw.write(b"raw\n"))
sys.stdout.writelines(["a", "b", "\n"])
print(sys.stdout.write("count\n"))
print("sep", "end", sep="|", end="")
