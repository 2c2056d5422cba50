# stdin with content that the program never reads.
print("does not care")
