# fork: target in __main__, exit codes, names, parent_process.
import multiprocessing as mp
import os
import sys


def child(code):
    print(mp.current_process().name, mp.parent_process().pid == os.getppid(), __name__, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    print(mp.get_start_method(), mp.get_all_start_methods(), mp.current_process().name, mp.parent_process(), flush=True)
    for code in (0, 5, "text"):
        p = mp.Process(target=child, args=(code,))
        p.start()
        p.join()
        print(p.exitcode, flush=True)
