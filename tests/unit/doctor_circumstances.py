"""Circumstances for the doctor's checks: without a daemon, and with one that has told this or that."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connector_sdk.wire import (
    ErrorClass,
    ExecuteResponse,
    FrameDecoder,
    HealthCheck,
    HealthCheckResponse,
    Message,
    decode_message,
    encode_message,
)
from vastar_runtime import __version__
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances, look
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.processes import Manner
from vastar_runtime.cli.probe import Found
from vastar_runtime.cli.probe import State as OnSocket

INVALID = ExecuteResponse(error_class=ErrorClass.INVALID_REQUEST, error_message="Invalid FlatBuffers message")
HEALTH = HealthCheckResponse(healthy=True, version=__version__, uptime_ms=90_061_000)
STARTED = Manner(is_detached=True, log="/x")
WELL: dict[str, Any] = {
    "config_file": None,
    "configured_at_unix_s": 1.8e9,
    "listen": {},
    "environment": {},
    "workers": [{"pid": 7, "answers": True}, {"pid": 8, "answers": True}],
    "workers_wanted": 2,
    "credentials": [],
    "shared_limits": None,
    "policies": {
        "admission": {"max_concurrent": None, "running": 0, "waiting": 0, "tenants": []},
        "spending": {"refusing": [], "standings": [], "currency": "USD"},
        "rate_limit": {"refusing": []},
        "circuit_breaker": {"circuits": [], "not_closed": 0},
    },
}


def seen(tmp_path: Path, environ: Mapping[str, str] | None = None, **flags: str) -> Circumstances:
    """With nothing on the socket."""
    here = {"VASTAR_CONFIG": os.devnull, "VASTAR_SOCKET_PATH": "/tmp/v-nobody/s", "HOME": str(tmp_path)}
    return look(
        {**here, **(environ or {})},
        config_path=flags.get("config_path"),
        socket_path=None,
        log_path=flags.get("log_path", str(tmp_path / "log")),
        tenant_id="default",
    )


def daemon(health: HealthCheckResponse = HEALTH, told: dict[str, Any] | None = None, **fields: Any) -> Circumstances:
    """One that answers, and has told this of itself."""
    found = Found(state=OnSocket.RUNNING, socket_path="/s", pid=7, uid=os.geteuid(), health=health)
    known = {"environ": {}, "log_path": "/x", "socket": "/s", "found": found, "statistics": told, "manner": STARTED}
    return Circumstances(**(known | fields))


@contextmanager
def answering(path: Path | None, answer: Message) -> Iterator[int]:
    """Something on the socket, or on a port of TCP, which this gives, that has one answer to everything."""

    def serve(listening: socket.socket) -> None:
        while True:
            client, _ = listening.accept()
            with client:
                decoder = FrameDecoder()
                decoder.receive_data(client.recv(65536))
                frame = decoder.next_frame()
                if frame is None:
                    return
                assert isinstance(decode_message(*frame), HealthCheck)
                client.sendall(encode_message(answer))

    family, address = (socket.AF_INET, ("127.0.0.1", 0)) if path is None else (socket.AF_UNIX, str(path))
    with socket.socket(family) as listening:
        listening.bind(address)
        listening.listen()
        name = listening.getsockname()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield 0 if path is not None else name[1]
        finally:
            with socket.socket(family) as last:
                last.connect(name)
            thread.join()


def one(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    return finding


def told(finding: Finding) -> tuple[State, str]:
    return finding.state, finding.found
