# Fills all file systems in memory, which together are larger than what a job may have.
for place in ('/tmp', '/dev/shm', '/var/tmp'):
    with open(f'{place}/filler', 'wb', buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError as error:
            print(f'{place}: {error}', flush=True)
taken = []
while True:
    taken.append(b'x' * (1 << 20))
