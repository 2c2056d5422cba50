# spawn without the __main__ guard: the well-known RuntimeError in the child.
import multiprocessing as mp

mp.set_start_method("spawn")
p = mp.Process(target=print, args=("never",))
p.start()
p.join()
print("exit code", p.exitcode)
