# A SyntaxError with the "Perhaps you forgot a comma" range caret.
print("must not be printed")
total = (first second)
