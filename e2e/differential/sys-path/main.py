# sys.path with the job directory normalised, and its type.
import os
import sys

print([p.replace(os.getcwd(), "<job>") for p in sys.path], type(sys.path))
print(all(type(p) is str for p in sys.path), sys.path[0] == os.path.dirname(__file__))
