# weakref.finalize at exit, atexit=False, and callbacks in order with atexit.
import atexit
import weakref


class O:
    pass


o, p, q = O(), O(), O()
atexit.register(print, "atexit first")
weakref.finalize(o, print, "finalize o")
f = weakref.finalize(p, print, "finalize p")
f.atexit = False
r = weakref.ref(q, lambda r: print("weakref callback q"))
atexit.register(print, "atexit second")
q = None
print(f.alive)
