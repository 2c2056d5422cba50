# The first import of the program sees a file made by the program: no stale directory cache of the job directory.
with open("made_now.py", "w") as f:
    f.write("VALUE = 'fresh'\n")
import made_now

print(made_now.VALUE)
