# A trace function left on sees the Python code that runs at shutdown.
import os
import sys
import threading


def tracer(frame, event, arg):
    os.write(1, f"{event} {frame.f_code.co_name} {frame.f_code.co_filename.rsplit('/', 1)[1]}\n".encode())


threading.settrace(tracer)
t = threading.Thread(target=abs, args=(1,), name="t")
t.start()
t.join()
sys.settrace(tracer)
