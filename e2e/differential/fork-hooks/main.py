# os.register_at_fork: only this program's hooks run, in order; random state and threads after fork.
import os
import threading

os.register_at_fork(before=lambda: print("before 1"), after_in_parent=lambda: print("parent 1"), after_in_child=lambda: print("child 1"))
os.register_at_fork(before=lambda: print("before 2"), after_in_child=lambda: print("child 2"))
e = threading.Event()
t = threading.Thread(target=e.wait)
t.start()
pid = os.fork()
if pid == 0:
    print(threading.active_count(), threading.main_thread() is threading.current_thread(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
e.set()
t.join()
