"""A client that is another user's process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from wire_client import execute_request

from connector_sdk.wire import ExecuteResponse, FrameDecoder, decode_message, encode_message

PATIENCE_S = 20
# All that it needs is imported before it becomes the other user, who may not read this tree.
_PROGRAM = """
import os, socket, sys
uid, gid, groups, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setgid(gid)
os.setuid(uid)
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(path)
client.sendall(bytes.fromhex(sys.stdin.read()))
client.shutdown(socket.SHUT_WR)
data = b""
while piece := client.recv(65536):
    data += piece
print(os.getpid(), data.hex())
"""


class Asked(NamedTuple):
    """The answer, and the PID of the process that asked."""

    answer: ExecuteResponse
    pid: int


def ask_as(
    uid: int, socket_path: str, url: str, *, gid: int = 65534, groups: Sequence[int] = (), **fields: Any
) -> Asked:
    """One request over a connection of its own; only root can do it."""
    frame = encode_message(execute_request(1, json.dumps({"url": url}).encode(), **fields))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, str(uid), str(gid), ",".join(map(str, groups)), socket_path],
        input=frame.hex(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pid, data = done.stdout.split()
    decoder = FrameDecoder()
    decoder.receive_data(bytes.fromhex(data))
    received = decoder.next_frame()
    assert received is not None
    message = decode_message(*received)
    assert isinstance(message, ExecuteResponse)
    return Asked(message, int(pid))
