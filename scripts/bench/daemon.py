"""The daemon under measurement: started, asked for its health, stopped."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.processes import Processes

START_PATIENCE_S = 20.0
# Between two attempts to connect to a daemon that starts: short against what is measured, and no load.
ATTEMPT_INTERVAL_S = 0.001
HEALTH_CHECK = struct.pack(">IB", 1, 2)  # protocol.md part 1: length, type 2, no payload
_HEADER_BYTES = 5
_HEALTH_RESPONSE = 3


@dataclass(frozen=True)
class Daemon:
    """One that has answered a HealthCheck; ``start_s``: how long that took from the start of its process."""

    name: str
    process: subprocess.Popen[bytes]
    socket_path: Path
    start_s: float


def knows_workers(runtime: str) -> bool:
    """Whether this vastar-runtime can run with several workers.

    Raises:
        BenchError: it does not even say what it can.
    """
    try:
        done = subprocess.run([runtime, "run", "--help"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{runtime} cannot be run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise BenchError(f"{runtime} run --help ended with status {done.returncode}: {said}")
    return "--workers" in done.stdout


def start_daemon(
    processes: Processes, runtime: str, name: str, workers: int = 1, variables: Mapping[str, str] | None = None
) -> Daemon:
    """Start one on a socket of its own, with the default settings.

    Raises:
        BenchError: it ended, or did not answer in time.
    """
    socket_path = processes.directory / f"{name}.sock"
    options = ["--workers", str(workers)] if workers > 1 else []
    began = time.monotonic()
    process = processes.start(name, [runtime, "run", "--socket", socket_path, *options], variables=variables)
    while True:
        try:
            with connect(socket_path) as connection:
                check_health(connection)
            break
        except (FileNotFoundError, ConnectionError):
            processes.check()
        if time.monotonic() > began + START_PATIENCE_S:
            raise BenchError(f"{name} did not answer within {START_PATIENCE_S:.0f} s")
        time.sleep(ATTEMPT_INTERVAL_S)
    return Daemon(name, process, socket_path, time.monotonic() - began)


def connect(socket_path: Path) -> socket.socket:
    """A connection to the daemon."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(START_PATIENCE_S)
    try:
        connection.connect(str(socket_path))
    except BaseException:
        connection.close()
        raise
    return connection


def check_health(connection: socket.socket) -> None:
    """Ask, and take the answer in.

    Raises:
        ConnectionError: the daemon closed the connection.
        BenchError: it answered something else.
    """
    connection.sendall(HEALTH_CHECK)
    length, kind = struct.unpack(">IB", _receive(connection, _HEADER_BYTES))
    _receive(connection, length - 1)
    if kind != _HEALTH_RESPONSE:
        raise BenchError(f"the daemon answered a HealthCheck with a message of type {kind}")


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("the daemon closed the connection")
        data += piece
    return data
