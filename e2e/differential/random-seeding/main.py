# Unseeded generators: values differ within a run, a fork differs, a fixed seed gives fixed values.
import os
import random
import uuid

print(random.random() != random.Random().random(), os.urandom(8) != os.urandom(8), uuid.uuid4() != uuid.uuid4())
r, w = os.pipe()
if os.fork() == 0:
    os.write(w, repr(random.random()).encode())
    os._exit(0)
os.wait()
print(repr(random.random()).encode() != os.read(r, 100))
random.seed(42)
print(random.random(), random.randrange(1000), random.choice("abcdef"), random.sample(range(50), 5), random.gauss(0, 1))
