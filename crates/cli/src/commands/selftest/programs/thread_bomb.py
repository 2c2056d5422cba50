# Starts threads until no more are to be had, and says how that is told.
import threading, time

threads = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        threads += 1
except RuntimeError as error:
    print(f'{threads >= 400}: {error}')
