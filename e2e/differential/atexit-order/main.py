# atexit callbacks run last in first out; none was registered before.
import atexit

print(atexit._ncallbacks())
for i in range(3):
    atexit.register(print, "callback", i)


@atexit.register
def nested():
    print("nested")
    atexit.register(print, "registered at exit")


print(atexit._ncallbacks())
