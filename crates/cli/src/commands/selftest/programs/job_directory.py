# Takes its own directory away from under itself: removed, and another in its place.
import os, shutil

here = os.getcwd()
os.chmod(here, 0)
os.chmod(here, 0o700)
shutil.rmtree(here)
os.symlink('/etc', here)
os.makedirs('/tmp/.hidden/x', 0o000)
print(os.path.exists(here + '/passwd'))
