"""A session with policies of the test's own, and upstreams on memory streams that do one step a request."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from http_upstream import Peer, Received
from session_under_test import HEALTH, sockets
from stream_client import greet
from wire_client import WireClient

from connector_sdk.wire import ErrorClass, ExecuteResponse
from vastar_runtime.config import Settings
from vastar_runtime.config.policy import Policy
from vastar_runtime.connectors import Services
from vastar_runtime.errors import Failure, UpstreamError
from vastar_runtime.http.pool import Pool
from vastar_runtime.http.prompt_connection import PromptConnection
from vastar_runtime.http.url import Origin
from vastar_runtime.metering.metering import Metering
from vastar_runtime.policies.circuit import State
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server.session import Session

UNIX_S = 1_800_000_000.0
HOST = "upstream.test"
URL = f"http://{HOST}/path"
OTHER = "other.test"
OTHER_URL = f"http://{OTHER}/path"

Step = Callable[[Peer], Awaitable[None]]
Pair = Callable[[], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]


_pair: Pair = trio.testing.memory_stream_pair


@pytest.fixture(autouse=True, params=["memory", "sockets"])
def streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a module whose stories are to hold over both: requests need a task of their own over the one, and over the
    other, once a connection is kept, mostly none."""
    if request.param == "sockets":
        monkeypatch.setattr("policed_session._pair", sockets)


def answer(status: int, body: str = "", headers: str = "") -> Step:
    """This response, and the connection is kept."""
    return partial(Peer.answer, body=body.encode(), status=status, headers=headers)


OK = answer(200, "fine")


def unavailable(retry_after: object = None, body: str = "", status: int = 503) -> Step:
    return answer(status, body, "" if retry_after is None else f"Retry-After: {retry_after}\r\n")


def saying(data: bytes) -> Step:
    """These bytes, and then the end of the connection."""

    async def step(peer: Peer) -> None:
        await peer.send(data)
        await peer.stream.aclose()

    return step


reset = saying(b"")


async def silent(peer: Peer) -> None:
    await peer.gone()


class Upstream:
    """Does the n-th step for the n-th request, and the last one for all further ones.

    Attributes:
        requests: what came, and ``asked_at_s`` when.
        refuses: so many connections are refused first.
        connections: that were opened.
    """

    def __init__(self, *steps: Step, refuses: int = 0) -> None:
        self.steps = list(steps) or [OK]
        self.refuses = refuses
        self.refused = 0
        self.connections = 0
        self.requests: list[Received] = []
        self.asked_at_s: list[float] = []
        self.reads_body: Callable[[Peer], Awaitable[None]] | None = None

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    async def serve(self, stream: trio.abc.Stream) -> None:
        peer = Peer(self, stream, self.connections)  # type: ignore[arg-type]
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while await self._request(peer):
                    step = self.steps[min(len(self.asked_at_s), len(self.steps) - 1)]
                    self.asked_at_s.append(trio.current_time())
                    await step(peer)
        finally:
            await trio.aclose_forcefully(stream)

    async def _request(self, peer: Peer) -> bool:
        if self.reads_body is None:
            return await peer.request() is not None
        if await peer.request_head() is None:
            return False
        await self.reads_body(peer)
        return True


class Dialer:
    """Connects to the upstreams by their hosts' names."""

    def __init__(self, nursery: trio.Nursery, upstreams: dict[str, Upstream]) -> None:
        self.upstreams = upstreams
        self.timeouts_s: list[float] = []
        self.pair: Pair = _pair
        self._nursery = nursery

    async def dial(self, origin: Origin, timeout_s: float = 10.0, guard: object = None) -> PromptConnection:
        self.timeouts_s.append(timeout_s)
        await trio.lowlevel.checkpoint()
        upstream = self.upstreams[origin.host.removesuffix(".")]
        if upstream.refused < upstream.refuses:
            upstream.refused += 1
            raise UpstreamError(f"cannot connect to {origin.address}: Connection refused", failure=Failure.UNSENT)
        upstream.connections += 1
        ours, theirs = self.pair()
        self._nursery.start_soon(upstream.serve, theirs)
        return PromptConnection(ours, origin.address)


class Result:
    """A buffered answer, with all that its frame says."""

    def __init__(self, response: ExecuteResponse, ended_at_s: float) -> None:
        self.error_class = response.error_class
        self.message = response.error_message or ""
        self.retry_after_ms = response.retry_after_ms
        self.attempts = response.attempts
        self.ended_at_s = ended_at_s
        self._payload: dict[str, Any] = json.loads(response.payload) if response.payload else {}

    def __repr__(self) -> str:
        return f"<{self.error_class.name} {self.message!r} {self._payload} attempts={self.attempts}>"

    @property
    def status(self) -> int:
        assert self.error_class is ErrorClass.SUCCESS, self
        return self._payload["status_code"]

    @property
    def body(self) -> str:
        assert self.error_class is ErrorClass.SUCCESS, self
        return self._payload["body"]

    @property
    def headers(self) -> dict[str, str]:
        assert self.error_class is ErrorClass.SUCCESS, self
        return self._payload["headers"]


class Policed:
    """A client, its session's pipeline, and the upstreams."""

    def __init__(self, client: WireClient, pipeline: Pipeline, pool: Pool, dialer: Dialer) -> None:
        self.client = client
        self.pipeline = pipeline
        self.pool = pool
        self.dialer = dialer

    @property
    def upstream(self) -> Upstream:
        return self.dialer.upstreams[HOST]

    @property
    def other(self) -> Upstream:
        return self.dialer.upstreams[OTHER]

    async def result(self) -> Result:
        message = await self.client.receive()
        assert isinstance(message, ExecuteResponse), message
        return Result(message, trio.current_time())

    async def begin(self, method: str = "GET", url: str = URL, **fields: Any) -> int:
        """Send a request; ``fields`` are parameters, but deadline_at_ms and tenant_id."""
        outer = {name: fields.pop(name) for name in ("deadline_at_ms", "tenant_id") if name in fields}
        return await self.client.begin({"url": url, "method": method, **fields}, **outer)

    async def send(self, method: str = "GET", url: str = URL, **fields: Any) -> Result:
        await self.begin(method, url, **fields)
        return await self.result()

    def circuit(self, host: str = HOST) -> State:
        circuits = self.pipeline.statistics().circuit_breaker.circuits
        return next((circuit.state for circuit in circuits if circuit.origin == f"http://{host}"), State.CLOSED)

    def nothing_is_held(self) -> None:
        """No place, no retry, no probe, no connection."""
        found = self.pipeline.statistics()
        assert (found.admission.running, found.admission.waiting) == (0, 0)
        assert (found.retry.active, found.retry.retrying) == (0, 0)
        assert [standing for standing in found.spending.standings if standing.reserved] == []
        assert [circuit for circuit in found.circuit_breaker.circuits if circuit.state is State.HALF_OPEN] == []
        pool = self.pool.statistics()
        assert (pool.active, pool.waiting) == (0, 0)


@asynccontextmanager
async def policed(
    upstream: Upstream | None = None,
    other: Upstream | None = None,
    *,
    settings: Settings | None = None,
    random: Callable[[], float] = lambda: 0.0,
    pool: Pool | None = None,
    dialer: Any = None,
    greets: bool = False,
    window_bytes: int = 0,
    metering: Metering | None = None,
    **stages: Any,
) -> AsyncIterator[Policed]:
    """Serve one client; at the end nothing may be held.

    Args:
        random: the share of each backoff that is waited for; by default none.
        greets: say Hello, for streams; with ``window_bytes``.
        stages: of the policy.
    """
    client_end, daemon_end = _pair()
    pool = pool or Pool()
    pipeline = Pipeline(
        settings or Settings(policy=Policy(**stages)),
        unix_clock=lambda: UNIX_S + trio.current_time(),
        random=random,
    )
    async with trio.open_nursery() as nursery:
        dialer = dialer or Dialer(nursery, {HOST: upstream or Upstream(), OTHER: other or Upstream()})
        services = Services(pool, dialer, metering=metering or Metering())
        session = Session(daemon_end, services, pipeline, health=lambda: HEALTH)
        nursery.start_soon(session.run)
        client = WireClient(client_end)
        if greets:
            await greet(client, window_bytes)
        world = Policed(client, pipeline, pool, dialer)
        yield world
        await trio.testing.wait_all_tasks_blocked()
        world.nothing_is_held()
        await client_end.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert session.active_requests == 0
        for connection in pool.take_expired(math.inf):
            await connection.close()
        nursery.cancel_scope.cancel()
