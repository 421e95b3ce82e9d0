"""A redis-server of a test's own, on a Unix socket in a temporary directory; it may be killed, paused and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from vastar_runtime.policies.allowance import (
    Allowance,
    AllowanceKey,
    AllowanceRefused,
    Amount,
    Calendar,
    Reserved,
    Sliding,
    UsedBefore,
)
from vastar_runtime.shared.redis_address import RedisAddress
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.unavailable import Fail

READY_S = 10.0
POLL_S = 0.01


class RedisServer:
    """Starts with ``start``; whoever made it ends it with ``kill``."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"  # none of TCP
        self.address = RedisAddress(path=str(self.socket))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once; it takes a moment until it answers."""
        program = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
        assert program, "these tests need redis-server: apt-get install redis-server"
        self._process = subprocess.Popen(
            [
                program,
                "--port",
                "0",
                "--unixsocket",
                self.socket,
                "--dir",
                self.directory,
                "--save",
                "",
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        """Until it answers."""
        ends_at_s = time.monotonic() + READY_S
        while True:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(self.socket))
                    client.sendall(b"PING\r\n")
                    if client.recv(100):
                        return
                except OSError:
                    assert time.monotonic() < ends_at_s, "redis-server does not start"
            time.sleep(POLL_S)

    def kill(self) -> None:
        """It has no time to write anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What redis-cli prints."""
        return subprocess.run(
            ["redis-cli", "-s", str(self.socket), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """One that runs. Not under pytest's directory: the path of a socket is short."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisServer(Path(directory), *options)
        server.start()
        try:
            server.wait()
            yield server
        finally:
            server.kill()


@asynccontextmanager
async def limits_of(
    server: RedisServer,
    fail: Fail = "closed",
    *,
    daemon: str = "a",
    prefix: str = "test",
    used_before: UsedBefore | None = None,
    timeout_s: float = 10.0,
    recovery_s: float = 0.05,
    waits: bool = True,
) -> AsyncIterator[RedisLimits]:
    """Those of one process, which count in Redis already, unless nobody waits for that. Redis has more time
    to answer than in earnest, as all tests of a busy machine run at once."""
    limits = RedisLimits(
        server.address,
        prefix=prefix,
        daemon=daemon,
        fail=fail,
        used_before=used_before,
        timeout_s=timeout_s,
        recovery_s=recovery_s,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limits.run)
        if waits:
            await available(limits)
        try:
            yield limits
        finally:
            nursery.cancel_scope.cancel()


async def available(limits: RedisLimits, wanted: bool = True) -> None:
    """Wait until Redis counts, or does not."""
    with trio.fail_after(READY_S):
        while limits.is_available is not wanted:
            await trio.sleep(POLL_S)


async def told(limits: RedisLimits) -> None:
    """Wait until Redis knows all that was settled."""
    with trio.fail_after(READY_S):
        await limits.allowances.all_told()


def per_tenant(limit: int, tenant: str = "batch", period_s: int = 60) -> Allowance:
    return Allowance(AllowanceKey("token_limit.per_tenant", tenant, None), limit, "tokens", Sliding(period_s))


def monthly(limit: int, tenant: str = "batch") -> Allowance:
    return Allowance(AllowanceKey("batch-monthly", tenant, None), limit, "tokens", Calendar("month"))


def tokens(count: int) -> Amount:
    return Amount(count, 0)


def got(decision: Reserved | AllowanceRefused) -> Reserved:
    assert isinstance(decision, Reserved), decision
    return decision


def denied(decision: Reserved | AllowanceRefused) -> AllowanceRefused:
    assert isinstance(decision, AllowanceRefused), decision
    return decision
