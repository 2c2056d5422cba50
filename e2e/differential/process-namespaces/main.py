# This process shares all its namespaces with its own child, and the links are readable.
import os

mine = {n: os.readlink(f"/proc/self/ns/{n}") for n in sorted(os.listdir("/proc/self/ns"))}
print([(n, v.split(":")[0]) for n, v in mine.items()])
pid = os.fork()
if pid == 0:
    print(all(os.readlink(f"/proc/self/ns/{n}") == v for n, v in mine.items()), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
