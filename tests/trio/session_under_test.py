"""A session on memory streams, with connectors and upstreams that do what a test tells them to."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
import trio
import trio.testing
from log_text import LogText
from wire_client import WireClient

from connector_sdk.wire import ExecuteRequest
from vastar_runtime.config import Settings
from vastar_runtime.config.policy import DeadlinePolicy, Policy, RetryPolicy
from vastar_runtime.connectors import CONNECTORS, Services
from vastar_runtime.connectors.base import Outcome
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.prompt_connection import PromptConnection
from vastar_runtime.http.url import Origin
from vastar_runtime.policies.passage import Passage
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server.health import Health
from vastar_runtime.server.session import Session
from vastar_runtime.telemetry import log as logging

HEALTH = Health(version="1.2.3", uptime_ms=5, active_requests=7, is_draining=False)


class Gate:
    """A connector whose requests, named by their payloads, are answered when the test says so."""

    name = "gate"

    def __init__(self) -> None:
        self.running: list[str] = []
        self.cancelled: list[str] = []
        self._events: dict[str, trio.Event] = {}

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> GateCall:
        return GateCall(self, (request.payload or b"").decode("latin-1"))

    def event(self, name: str) -> trio.Event:
        return self._events.setdefault(name, trio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.event(name).set()


class GateCall:
    origin = ""
    timeout_ms = None

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self._name = name

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        self._gate.running.append(self._name)
        try:
            # A test with a virtual clock: the request's own time limit is not what is tested.
            passage.deadline.progress("the gate")
            await self._gate.event(self._name).wait()
        except trio.Cancelled:
            self._gate.cancelled.append(self._name)
            raise
        finally:
            self._gate.running.remove(self._name)
        return json.dumps(self._name).encode()


class Calling:
    """A connector that calls a function, whatever comes of it."""

    def __init__(self, name: str, function: Callable[[ExecuteRequest], Any]) -> None:
        self.name = name
        self._function = function

    def prepare(self, request: ExecuteRequest, outcome: Outcome) -> CallingCall:
        return CallingCall(lambda: self._function(request))


class CallingCall:
    origin = ""
    timeout_ms = None

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    async def execute(self, services: Services, passage: Passage, hold: Callable[[int], None]) -> bytes:
        return json.dumps(self._function()).encode()


@contextmanager
def connectors(*added: Any) -> Iterator[None]:
    """These connectors are there too; one named "http" stands in for the real one."""
    before = dict(CONNECTORS)
    CONNECTORS.update({connector.name: connector for connector in added})
    try:
        yield
    finally:
        CONNECTORS.clear()
        CONNECTORS.update(before)


@contextmanager
def captured_log() -> Iterator[LogText]:
    """What the daemon's log says."""
    stream = LogText()
    logging.configure(stream)
    try:
        yield stream
    finally:
        structlog.reset_defaults()


def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a connection that the kernel carries."""
    ours, theirs = socket.socketpair()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)),
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
    )


class MemoryDialer:
    """In the place of the real one: connections are memory streams, served by ``script`` in ``nursery``."""

    def __init__(self, nursery: trio.Nursery, script: Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
        self._nursery = nursery
        self._script = script
        self.pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair

    async def dial(self, origin: Origin, timeout_s: float = 10.0, guard: object = None) -> PromptConnection:
        ours, theirs = self.pair()
        self._nursery.start_soon(self._script, theirs)
        return PromptConnection(ours, origin.address)


@asynccontextmanager
async def session(
    services: Services | None = None,
    *,
    idle_timeout_s: float = 60.0,
    policy: Policy | None = None,
    health: Health = HEALTH,
    pair: Callable[[], tuple[Any, Any]] = trio.testing.memory_stream_pair,
) -> AsyncIterator[tuple[WireClient, Session]]:
    """A client and its session. At the end the client goes, and the session must end by itself.

    Without a policy of the test's own every request gets one attempt: what its upstream does is what its client sees.
    """
    client_end, daemon_end = pair()
    # Services without a dialer: a connector that needed it would fail the test.
    services = services or Services(Pool(), None)  # type: ignore[arg-type]
    policy = policy or Policy(
        deadline=DeadlinePolicy(idle_timeout_ms=int(idle_timeout_s * 1000)), retry=RetryPolicy(max_retries=0)
    )
    under_test = Session(daemon_end, services, Pipeline(Settings(policy=policy)), health=lambda: health)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(under_test.run)
        yield WireClient(client_end), under_test
        await client_end.aclose()
    assert under_test.active_requests == 0
