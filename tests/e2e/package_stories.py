"""Stories about an official package, each told in four ways: blocking and asynchronous, directly and by the daemon.

A story is one coroutine function for both kinds of client: ``got``, ``items_of`` and ``opened`` take what either gives.
The result is plain data, without what differs from call to call; ``told`` holds the four results against each other.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import httpx2
import pydantic
import trio

from connector_sdk import AsyncRuntimeTransport, RuntimeConfig, RuntimeTransport
from vastar_runtime.simulator.serve import serve
from vastar_runtime.simulator.settings import SimulatorSettings

# What a story gets: a client of the package, of either kind.
Story = Callable[[Any], Coroutine[Any, Any, Any]]

CALL_TIMEOUT_S = 20

# These differ from one call to the next; that they are there is said by the packages' own types.
_VOLATILE = {"id", "item_id", "call_id", "tool_call_id", "created", "created_at", "completed_at", "request_id"}


# --- the simulator, in a thread ---


@contextmanager
def simulator_thread(**options: Any) -> Iterator[str]:
    """The URL of a simulator; options as for SimulatorSettings, without pauses between the pieces of a stream."""
    settings = SimulatorSettings(**{"tokens_per_second": 0} | options)
    is_ready = threading.Event()
    said: dict[str, Any] = {}

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            said["url"] = await nursery.start(serve, "127.0.0.1", 0, settings)
            said["token"], said["scope"] = trio.lowlevel.current_trio_token(), nursery.cancel_scope
            is_ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert is_ready.wait(CALL_TIMEOUT_S)
        yield said["url"]
    finally:
        trio.from_thread.run_sync(said["scope"].cancel, trio_token=said["token"])
        thread.join(CALL_TIMEOUT_S)


# --- the four ways ---


@dataclass(frozen=True)
class Way:
    """One way to tell a story.

    Attributes:
        open: opens another client of httpx2.
        http_client: shared by the clients of the package.
        run: runs a story to its end.
    """

    name: str
    is_async: bool
    open: Callable[[], Any]
    http_client: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def options(self) -> dict[str, Any]:
        """For a client of the package."""
        return {"http_client": self.http_client, "timeout": CALL_TIMEOUT_S}


@contextmanager
def four_ways(config: RuntimeConfig) -> Iterator[list[Way]]:
    """The HTTP clients for them; the asynchronous ones live on one asyncio loop, for as long as this is open."""
    # One for all: to load the certificates takes longer than a story.
    tls = ssl.create_default_context()
    through, async_through = RuntimeTransport(config), AsyncRuntimeTransport(config)
    with asyncio.Runner() as runner:
        kinds: list[tuple[str, bool, Callable[[], Any], Callable[[Coroutine[Any, Any, Any]], Any]]] = [
            ("blocking, directly", False, lambda: httpx2.Client(verify=tls), _run_blocking),
            ("blocking, through the daemon", False, lambda: httpx2.Client(transport=through), _run_blocking),
            ("asynchronous, directly", True, lambda: httpx2.AsyncClient(verify=tls), runner.run),
            ("asynchronous, through the daemon", True, lambda: httpx2.AsyncClient(transport=async_through), runner.run),
        ]
        ways = [Way(name, is_async, open, open(), run) for name, is_async, open, run in kinds]
        try:
            yield ways
        finally:
            for way in ways:
                if way.is_async:
                    runner.run(way.http_client.aclose())
                else:
                    way.http_client.close()


def told(story: Story, clients: Iterable[tuple[Way, Any]]) -> Any:
    """What came of a story, the same in all ways, with the package's client for each."""
    results = [(way.name, way.run(story(client))) for way, client in clients]
    (first, expected), *others = results
    for name, result in others:
        assert result == expected, f"{name}: another result than {first}"
    return expected


class Suite:
    """A package's clients, one for each way, and the simulator that all of them ask."""

    def __init__(self, ways: list[Way], url: str, open_client: Callable[[Way], Any]) -> None:
        self.ways = ways
        self.url = url
        self._clients = [(way, open_client(way)) for way in ways]

    def told(self, story: Story) -> Any:
        return told(story, self._clients)

    def seen(self, mark: str) -> int:
        """The number of requests that came with ``mark`` in them."""
        with urlopen(f"{self.url}/__sim/requests", timeout=CALL_TIMEOUT_S) as answer:
            requests: list[dict[str, Any]] = json.load(answer)["requests"]
        return sum(mark in str(request) for request in requests)


def simulate(fault: str) -> dict[str, str]:
    """The header that asks for a fault."""
    return {"X-Simulate": fault}


def _run_blocking(story: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits: the client blocks instead."""
    try:
        story.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a blocking client's story waited")


# --- for the stories ---


async def got(value: Any) -> Any:
    """What a client's method came to."""
    return await value if inspect.isawaitable(value) else value


async def items_of(stream: Any, into: list[Any] | None = None) -> list[Any]:
    """All that a stream gives.

    Args:
        into: where they are put as they come, for streams that fail.
    """
    items = [] if into is None else into
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            items.append(item)
    else:
        items.extend(stream)
    return items


@asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    """A context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def failure(call: Callable[[], Any], kind: type[Exception]) -> Any:
    """The error that a call ends with, as plain data."""
    try:
        await got(call())
    except kind as error:
        return plain_error(error)
    raise AssertionError(f"no {kind.__name__}")


def plain_error(error: Any) -> dict[str, Any]:
    """An error of the packages, without what is different in each."""
    response = getattr(error, "response", None)
    found = {name: plain(getattr(error, name, None)) for name in ("status_code", "code", "param", "type", "body")}
    headers = {} if response is None else response.headers
    return found | {"class": type(error).__name__, "retry_after": headers.get("retry-after")}


def plain(value: Any) -> Any:
    """The same without ids and times, of a package's object or of anything in JSON."""
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


# --- the packages' types ---


def checked(kind: Any, data: Any) -> Any:
    """``data`` as an object of the package's type; it has no field of another type, and none that the type lacks."""
    found = _adapter(kind).validate_json(json.dumps(data), strict=True)
    unknown = list(_unknown(found, type(found).__name__))
    assert not unknown, unknown
    return found


@functools.cache  # of the union of all events it takes half a second
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _unknown(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{place}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unknown(inner, f"{place}[{index}]")


def data_of(events: Iterator[bytes]) -> list[Any]:
    """The JSON of server-sent events."""
    return [json.loads(event.partition(b"data: ")[2]) for event in events]
