# One file as large as it gets.
with open('/tmp/filler', 'wb', buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError as error:
        print(error)
