# The context at the start is empty; changes stay in their copy.
import contextvars
import threading

ctx = contextvars.copy_context()
print(len(ctx), list(ctx))
v = contextvars.ContextVar("v", default="d")
ctx.run(v.set, "inside")
print(v.get(), ctx[v], v in contextvars.copy_context())
v.set("main")
t = threading.Thread(target=lambda: print("thread", v.get()))
t.start()
t.join()
