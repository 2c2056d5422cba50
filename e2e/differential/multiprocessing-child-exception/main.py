# An uncaught exception in a Process prints its traceback with the process name, exit code 1; terminate gives -15.
import multiprocessing as mp
import time


def bad():
    return {}["in the child"]


if __name__ == "__main__":
    p = mp.Process(target=bad)
    p.start()
    p.join()
    print(p.exitcode)
    p = mp.Process(target=time.sleep, args=(30,))
    p.start()
    p.terminate()
    p.join()
    print(p.exitcode, mp.active_children())
