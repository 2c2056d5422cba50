# A SyntaxError in main.py itself: nothing runs, the report names the file.
print("must not be printed")
values = [1, 2, 3
print(values)
