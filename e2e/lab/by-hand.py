"""The shortest sequence of calls of Firecracker's API that restores a clone and has it say hello.

usage: by-hand.py FIRECRACKER SNAPSHOT IMAGE CONVERSATION [once]

Takes a sample for each line of stdin, and prints its times as JSON: `waiting` from the first call, in a Firecracker that was
started before; `started` from its start; `split` as `waiting`, and loads and resumes in two calls. No jail, no checks: what
it is compared with has both.
"""

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

firecracker, snapshot, image, conversation = sys.argv[1:5]
conversation = [(base64.b64decode(frame), answers) for frame, answers in json.loads(conversation)]

# Where the snapshot's disk is to be found: its path is in the state.
os.makedirs("/vm", exist_ok=True)
if not os.path.lexists("/vm/rootfs.ext4"):
    os.symlink(image, "/vm/rootfs.ext4")


def start(directory):
    return subprocess.Popen(
        [firecracker, "--api-sock", f"{directory}/api"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    while True:
        try:
            client.connect(path)
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            pass


def call(api, method, path, body):
    body = json.dumps(body)
    api.sendall(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = api.recv(4096)
    assert answer.startswith(b"HTTP/1.1 204"), answer


def receive(agent, size):
    data = b""
    while len(data) < size:
        data += agent.recv(size - len(data))
    return data


def converse(agent):
    answers = []
    for frame, count in conversation:
        agent.sendall(frame)
        for _ in range(count):
            (length,) = struct.unpack(">I", receive(agent, 4))
            answers.append(json.loads(receive(agent, length)))
    return base64.b64decode(answers[2]["stdout"]["bytes"]).decode()


def sample(kind):
    directory = f"/tmp/by-hand-{os.getpid()}"
    os.mkdir(directory)
    began = time.perf_counter()
    vmm = start(directory)
    api = connect(f"{directory}/api")
    if kind != "started":
        # It has answered once: a Firecracker that only listens has still to start its threads.
        api.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert api.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.perf_counter()
    load = {
        "snapshot_path": f"{snapshot}/vmstate.snapshot",
        "mem_backend": {"backend_type": "File", "backend_path": f"{snapshot}/mem.snapshot"},
        "vsock_override": {"uds_path": f"{directory}/vsock"},
        "resume_vm": kind != "split",
    }
    call(api, "PUT", "/snapshot/load", load)
    loaded = time.perf_counter()
    if kind == "split":
        call(api, "PATCH", "/vm", {"state": "Resumed"})
    resumed = time.perf_counter()
    agent = connect(f"{directory}/vsock")
    agent.sendall(b"CONNECT 5000\n")
    assert agent.recv(64).startswith(b"OK ")
    stdout = converse(agent)
    answered = time.perf_counter()
    vmm.kill()
    vmm.wait()
    shutil.rmtree(directory)
    return {"load": loaded - began, "resume": resumed - loaded, "answer": answered - began, "stdout": stdout}


if sys.argv[5:] == ["once"]:
    print(json.dumps(sample("started")))
else:
    for line in sys.stdin:
        print(json.dumps(sample(line.strip())), flush=True)
