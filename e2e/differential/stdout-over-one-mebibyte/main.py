# More than 1 MiB on stdout: whatever the limit does, it does the same.
line = "x" * 1023
for i in range(1200):
    print(line)
print("the end")
