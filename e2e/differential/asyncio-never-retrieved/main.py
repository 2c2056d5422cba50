# Exceptions never retrieved and coroutines never awaited: the log and the warning.
import asyncio
import gc


async def bad():
    raise RuntimeError("nobody looks")


async def never():
    pass


def handler(loop, context):
    print("handler:", context["message"], repr(context["exception"]))


async def main():
    asyncio.get_running_loop().set_exception_handler(handler)
    t = asyncio.create_task(bad())
    await asyncio.sleep(0.01)
    del t
    gc.collect()
    never()


asyncio.run(main())
