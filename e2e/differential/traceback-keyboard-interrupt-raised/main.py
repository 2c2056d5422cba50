# A KeyboardInterrupt raised by hand: traceback and the process ends by SIGINT.
def loop():
    raise KeyboardInterrupt("by hand")


print("before", flush=True)
loop()
