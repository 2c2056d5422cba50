# Latin-1 bytes without a cookie: a SyntaxError naming the byte.
print("before")
print("café")
