# "expected an indented block after" names the statement's line.
for i in range(3):
print(i)
