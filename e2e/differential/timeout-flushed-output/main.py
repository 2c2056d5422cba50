# print(flush=True) before an endless loop: exactly that is seen.
import sys

print("seen", flush=True)
sys.stderr.write("stderr seen\n")
print("not seen")
while True:
    pass
