# A million names.
import os

made = 0
try:
    while True:
        os.close(os.open(f'/tmp/{made}', os.O_CREAT))
        made += 1
except OSError as error:
    print(f'{made > 10_000}: {os.strerror(error.errno)}')
