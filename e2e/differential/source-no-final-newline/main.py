# No newline at the end of the file, and a traceback in the last line.
print("x")
raise ValueError("last line")