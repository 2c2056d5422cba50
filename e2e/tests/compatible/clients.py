# Published clients, unmodified, on a running service: python3 clients.py http://127.0.0.1:PORT
import asyncio
import base64
import json
import sys

import aiohttp
import requests
from pyston import File, PystonClient
from sandbox_fusion import RunCodeRequest, RunStatus, run_code, run_code_async, run_concurrent, set_sandbox_endpoint
from sandbox_fusion.models import CommandRunStatus

base = sys.argv[1]


def sandbox_fusion():
    set_sandbox_endpoint(base + "/")
    answer = run_code(RunCodeRequest(code="print(input())", language="python", stdin="Alice"))
    assert answer.status == RunStatus.Success, answer
    assert answer.run_result.stdout == "Alice\n" and answer.run_result.return_code == 0, answer
    assert answer.run_result.execution_time >= 0 and answer.compile_result is None, answer

    failed = run_code(RunCodeRequest(code="raise SystemExit(3)", language="python"))
    assert failed.status == RunStatus.Failed and failed.run_result.return_code == 3, failed

    late = run_code(RunCodeRequest(code="while True: pass", language="python", run_timeout=1))
    assert late.run_result.status == CommandRunStatus.TimeLimitExceeded, late
    assert late.status == RunStatus.Failed and late.run_result.return_code is None, late

    given = {"data/in.txt": base64.b64encode(b"given").decode(), "left out": None}
    code = "open('out.bin', 'wb').write(open('data/in.txt', 'rb').read() + b'\\x00\\xff')"
    files = run_code(RunCodeRequest(code=code, language="python", files=given, fetch_files=["out.bin", "absent"])).files
    assert files == {"out.bin": base64.b64encode(b"given\x00\xff").decode()}, files

    try:
        run_code(RunCodeRequest(code="", language="cpp"), max_attempts=1)
        raise AssertionError("a language that is not installed was run")
    except Exception as error:
        assert "not installed" in str(error), error

    requests = [[RunCodeRequest(code=f"print({number})", language="python")] for number in range(8)]
    answers = run_concurrent(run_code, args=requests, concurrency=8)
    assert [answer.run_result.stdout for answer in answers] == [f"{number}\n" for number in range(8)], answers

    answer = asyncio.run(run_code_async(RunCodeRequest(code="print(1)", language="python")))
    assert answer.run_result.stdout == "1\n", answer


def training_pipelines():
    # What reward functions post by themselves, and how they tell success.
    payload = {"compile_timeout": 10, "run_timeout": 10, "code": "print(int(input()) * 6)", "stdin": "7", "language": "python",
               "files": {}, "fetch_files": []}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    response = requests.post(base + "/run_code", headers=headers, data=json.dumps(payload), timeout=30)
    response.raise_for_status()
    answer = response.json()
    assert answer["status"] == "Success" and answer["compile_result"] is None, answer
    run = answer["run_result"]
    assert run["status"] == "Finished" and run["return_code"] == 0 and run["stdout"] == "42\n", answer


async def piston():
    client = PystonClient(base_url=f"{base}/api/v2/piston/")
    runtimes = await client.get_runtimes("py")
    assert runtimes[0].language == "python" and runtimes[0].version.startswith("3."), runtimes
    assert await client.languages() == {"python"}
    output = await client.execute("python", [File("import sys\nprint(input(), sys.argv[1:])")], stdin="in", args=["x"])
    assert str(output) == "in ['x']\n" and output.run_stage.code == 0, output.raw_json
    files = [File("import helper; print(helper.VALUE)", "program.py"), File("VALUE = 7", "helper.py")]
    output = await client.execute("python", files, version="3")
    assert str(output) == "7\n", output.raw_json
    try:
        await client.execute("cobol", [File("")])
        raise AssertionError("an unknown language was run")
    except Exception as error:
        assert "cobol-* runtime is unknown" in str(error), repr(error)
    await client.close_session()


async def piston_connect():
    url = f"{base}/api/v2/connect"
    init = {"type": "init", "language": "python", "version": "*", "run_timeout": 3000}

    def with_code(code):
        return init | {"files": [{"name": "main.py", "content": code}]}

    async def until(socket, condition):
        seen = []
        while not seen or not condition(seen[-1]):
            seen.append(await socket.receive_json(timeout=30))
        return seen

    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            await socket.send_json(with_code("print('name?', flush=True)\nprint('hello', input())"))
            seen = await until(socket, lambda message: message["type"] == "data")
            assert [message["type"] for message in seen] == ["runtime", "stage", "data"], seen
            assert seen[0]["language"] == "python" and seen[1]["stage"] == "run", seen
            await socket.send_json({"type": "data", "stream": "stdin", "data": "Alice\n"})
            seen = await until(socket, lambda message: message["type"] == "exit")
            assert seen[-2]["data"] == "hello Alice\n" and seen[-2]["stream"] == "stdout", seen
            assert seen[-1] == {"type": "exit", "stage": "run", "code": 0, "signal": None}, seen
            await socket.receive()
            assert socket.close_code == 4999, socket.close_code

        async with session.ws_connect(url) as socket:
            await socket.send_json(with_code("import time\nprint('up', flush=True)\ntime.sleep(60)"))
            await until(socket, lambda message: message["type"] == "data")
            await socket.send_json({"type": "signal", "signal": "SIGTERM"})
            seen = await until(socket, lambda message: message["type"] == "exit")
            assert seen[-1]["signal"] == "SIGTERM" and seen[-1]["code"] is None, seen

        # More than an answer of `execute` holds.
        async with session.ws_connect(url) as socket:
            await socket.send_json(with_code("print('x' * 2_000_000)"))
            seen = await until(socket, lambda message: message["type"] == "exit")
            assert sum(len(message["data"]) for message in seen if message["type"] == "data") == 2_000_001
            assert seen[-1] == {"type": "exit", "stage": "run", "code": 0, "signal": None}, seen[-1]

        for first, code in [
            ({"type": "data", "stream": "stdin", "data": ""}, 4003),
            ({"type": "signal", "signal": "SIGTERM"}, 4003),
            (init, 4002),
            (None, 4001),
        ]:
            async with session.ws_connect(url) as socket:
                if first:
                    await socket.send_json(first)
                message = await socket.receive(timeout=30)
                if code == 4002:
                    assert message.json()["type"] == "error" and "files is required" in message.json()["message"], message
                    await socket.receive(timeout=30)
                assert socket.close_code == code, (first, socket.close_code)

        for second, code in [
            (with_code(""), 4000),
            ({"type": "data", "stream": "stdout", "data": ""}, 4004),
            ({"type": "signal", "signal": "SIGNONE"}, 4005),
        ]:
            async with session.ws_connect(url) as socket:
                await socket.send_json(with_code("import time\nprint('up', flush=True)\ntime.sleep(2)"))
                await until(socket, lambda message: message["type"] == "data")
                await socket.send_json(second)
                await socket.receive(timeout=30)
                assert socket.close_code == code, (second, socket.close_code)

        try:
            await session.ws_connect(url, headers={"Origin": "https://elsewhere.example"})
            raise AssertionError("a page of others was let in")
        except aiohttp.WSServerHandshakeError as error:
            assert error.status == 403, error


sandbox_fusion()
training_pipelines()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(piston())
loop.run_until_complete(piston_connect())
print("all answered as they expect")
