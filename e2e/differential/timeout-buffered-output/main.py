# Prints without flush, then an endless loop: killed by the limit, nothing of the small output may appear.
print("never seen, it sits in the buffer")
while True:
    pass
