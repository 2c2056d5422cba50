# Files without a name that take space as long as they are open; a child keeps them beyond the program's end.
import os, time

taken = []
try:
    while True:
        file = os.open('/tmp/deleted', os.O_CREAT | os.O_RDWR)
        os.unlink('/tmp/deleted')
        os.write(file, bytes(1 << 20))
        taken.append(file)
except OSError as error:
    print(f'{len(taken) > 100}: {os.strerror(error.errno)}', flush=True)
if os.fork() == 0:
    time.sleep(60)
