# fd 1 redirected into a file by dup2 and back.
import os
import sys

saved = os.dup(1)
fd = os.open("out.txt", os.O_CREAT | os.O_RDWR, 0o600)
os.dup2(fd, 1)
print("into the file")
os.system("echo child too")
sys.stdout.flush()
os.dup2(saved, 1)
print("back", open("out.txt").read().split("\n"), os.get_inheritable(1))
