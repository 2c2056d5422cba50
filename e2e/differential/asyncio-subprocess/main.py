# asyncio subprocesses: output, exit codes, kill, shell.
import asyncio
import sys


async def main():
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", "import sys; print(input()); sys.exit(4)", stdin=-1, stdout=-1)
    out, _ = await p.communicate(b"hello\n")
    print(out, p.returncode)
    p = await asyncio.create_subprocess_shell("echo shell; exit 3", stdout=-1)
    print(await p.stdout.read(), await p.wait())
    p = await asyncio.create_subprocess_exec("sleep", "30")
    p.kill()
    print(await p.wait())


asyncio.run(main())
