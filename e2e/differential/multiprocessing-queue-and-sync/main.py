# Queue, Lock, Value, Event and shared memory between two processes.
import multiprocessing as mp
from multiprocessing import shared_memory


def child(q, value, event, name):
    shm = shared_memory.SharedMemory(name=name)
    shm.buf[0] = 99
    shm.close()
    with value.get_lock():
        value.value += 5
    q.put({"from": "child"})
    event.set()


if __name__ == "__main__":
    q, value, event = mp.Queue(), mp.Value("i", 1), mp.Event()
    shm = shared_memory.SharedMemory(create=True, size=16)
    p = mp.Process(target=child, args=(q, value, event, shm.name))
    p.start()
    print(q.get(), event.wait(5))
    p.join()
    print(value.value, shm.buf[0])
    shm.close()
    shm.unlink()
