# asyncio.run with gather, timeouts, cancellation, task names from 1.
import asyncio
import threading


async def job(n):
    await asyncio.sleep(0.001 * n)
    return asyncio.current_task().get_name(), n


async def main():
    print(asyncio.current_task().get_name(), type(asyncio.get_running_loop()).__name__, threading.current_thread().name)
    print(await asyncio.gather(job(3), job(1)))
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.01)
    except TimeoutError as exc:
        print("timeout", repr(exc))
    async with asyncio.TaskGroup() as tg:
        t = tg.create_task(job(2))
    print(t.result()[1])
    raise ValueError("out of asyncio.run")


print(type(asyncio.get_event_loop_policy()).__name__, asyncio._get_running_loop())
asyncio.run(main())
