# Files with unicode and undecodable names, written, listed and read back.
import os
import sys

for name in ("größe.txt", "漢字.txt", "emoji-\U0001f389.txt", "combining-e\u0301.txt", "byte-\udcff.txt"):
    with open(name, "w", encoding="utf-8") as f:
        f.write(name.encode("utf-8", "surrogateescape").hex())
for name in sorted(os.listdir(".")):
    if name.endswith(".txt"):
        print(ascii(name), os.fsencode(name), open(name).read() == os.fsencode(name).hex())
print(sorted(os.listdir(b"."))[-3:])
sys.stdout.flush()
os.system("ls *.txt | wc -l")
open("\udcfe fehlt é")
