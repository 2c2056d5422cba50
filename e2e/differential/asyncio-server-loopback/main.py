# A server and a client over a unix socket and, when up, the loopback interface.
import asyncio


async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def main():
    async with await asyncio.start_unix_server(serve, "sock"):
        r, w = await asyncio.open_unix_connection("sock")
        w.write(b"unix\n")
        print(await r.read())
        w.close()
    try:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as s:
            r, w = await asyncio.open_connection(*s.sockets[0].getsockname())
            w.write(b"tcp\n")
            print(await r.read())
            w.close()
    except OSError as exc:
        print(exc.strerror)


asyncio.run(main())
