# Identity of the main thread, and that no other thread exists.
import _thread
import os
import threading

m = threading.main_thread()
print(m.name, m.ident == threading.get_ident(), m is threading.current_thread(), m.daemon, m.is_alive())
print(m.native_id == threading.get_native_id() == os.getpid(), repr(m).split(",")[0])
print(len(threading.enumerate()), threading.active_count(), _thread._count(), threading.stack_size())
print(len(os.listdir("/proc/self/task")), type(m).__name__, threading._active.keys() == {m.ident})
print(len(threading._shutdown_locks), threading.get_ident() == _thread.get_ident())
