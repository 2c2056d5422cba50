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
    """A Firecracker that listens: it says so, and nothing is tried again and again."""
    vmm = subprocess.Popen(
        [firecracker, "--api-sock", f"{directory}/api"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
    )
    while b"Listening on API socket" not in (line := vmm.stdout.readline()):
        assert line, "Firecracker has ended"
    return vmm


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def reach_agent(path):
    while True:
        agent = connect(path)
        agent.settimeout(1)
        agent.sendall(b"CONNECT 5000\n")
        try:
            assert agent.recv(64).startswith(b"OK ")
        except TimeoutError:
            # A restored guest's vsock loses a request now and then (firecracker issue 5688).
            print("by hand: a CONNECT was lost", file=sys.stderr)
            continue
        # Whatever is lost, the script ends, and says so.
        agent.settimeout(30)
        return agent


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
        part = agent.recv(size - len(data))
        assert part, "the guest agent has hung up"
        data += part
    return data


def converse(agent, messages):
    answers = []
    for frame, count in messages:
        agent.sendall(frame)
        for _ in range(count):
            (length,) = struct.unpack(">I", receive(agent, 4))
            answers.append(json.loads(receive(agent, length)))
    return answers


def sample(kind):
    directory = f"/tmp/by-hand-{os.getpid()}"
    os.mkdir(directory)
    began = time.perf_counter()
    vmm = start(directory)
    try:
        return measured(kind, directory, began)
    finally:
        # Also after an error: it would hold whatever the script's caller waits to be closed.
        vmm.kill()
        vmm.wait()
        vmm.stdout.close()
        shutil.rmtree(directory)


def measured(kind, directory, began):
    api = connect(f"{directory}/api")
    if kind != "started":
        # As ours: told to log no more than warnings, and by that it has answered once.
        call(api, "PUT", "/logger", {"level": "Warning"})
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
    agent = reach_agent(f"{directory}/vsock")
    connected = time.perf_counter()
    converse(agent, conversation[:2])
    greeted = time.perf_counter()
    execution, _ = converse(agent, conversation[2:])
    answered = time.perf_counter()
    return {
        "load": loaded - began,
        "resume": resumed - loaded,
        "connect": connected - resumed,
        "handshake": greeted - connected,
        "run": answered - greeted,
        "stdout": base64.b64decode(execution["stdout"]["bytes"]).decode(),
    }


if sys.argv[5:] == ["once"]:
    print(json.dumps(sample("started")))
else:
    for line in sys.stdin:
        print(json.dumps(sample(line.strip())), flush=True)
