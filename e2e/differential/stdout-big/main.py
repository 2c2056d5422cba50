# 300 kB of output, in lines.
line = "0123456789" * 9 + "abcdefghi"
for i in range(3000):
    print(line)
