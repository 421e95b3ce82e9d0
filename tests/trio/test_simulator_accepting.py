"""How many clients have a connection at once, and for how long one that says nothing keeps it."""

from __future__ import annotations

import errno
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from simulator_client import question, request_bytes, simulator
from trio.testing import MockClock, wait_all_tasks_blocked

from vastar_runtime.simulator import accepting
from vastar_runtime.simulator.accepting import FRESH_S, HEAD_TIMEOUT_S, Place, Places, accept, max_connections
from vastar_runtime.simulator.app import create_app
from vastar_runtime.simulator.body import MAX_SILENCE_S
from vastar_runtime.simulator.exchange import Exchange
from vastar_runtime.simulator.fault_injection import FaultInjection
from vastar_runtime.simulator.journal import Journal
from vastar_runtime.simulator.settings import SimulatorSettings

SILENT = b"GET /health HTTP/1.1\r\nX: "


class Stream:
    """A connection that was accepted."""

    def __init__(self) -> None:
        self.is_closed = False
        self.socket = self

    def close(self) -> None:
        self.is_closed = True

    def fileno(self) -> int:
        return -1


class Listener(trio.abc.Listener[Any]):
    """Gives what it was told to: streams, and errors."""

    def __init__(self, *accepted: Stream | OSError) -> None:
        self._accepted = list(accepted)
        self.asked_at: list[float] = []

    async def accept(self) -> Any:
        self.asked_at.append(trio.current_time())
        if not self._accepted:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        found = self._accepted.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    async def aclose(self) -> None:
        raise NotImplementedError


class Conversations:
    """Of each stream the place, while it is open."""

    def __init__(self) -> None:
        self.places: dict[Any, Place] = {}

    async def __call__(self, stream: Any, place: Place) -> None:
        self.places[stream] = place
        try:
            while not stream.is_closed:
                await trio.sleep(1)
        finally:
            place.leave()
            del self.places[stream]


@asynccontextmanager
async def accepted(listener: Listener, most: int) -> AsyncIterator[Conversations]:
    conversations = Conversations()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, Places(most), conversations)
        await wait_all_tasks_blocked()
        yield conversations
        nursery.cancel_scope.cancel()


async def test_where_there_is_no_room_another_connection_gives_way(autojump_clock: MockClock) -> None:
    first, second, third = Stream(), Stream(), Stream()
    async with accepted(Listener(first, second, third), 2) as conversations:
        await trio.sleep(0.9)
        assert set(conversations.places) == {first, second}  # their requests may be on their way
        await trio.sleep(2)
        assert set(conversations.places) == {second, third}
    assert first.is_closed


async def test_the_idle_give_way_in_their_order_and_the_busy_never(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []
    places = Places(3)
    unread = {"c"}

    def take(name: str) -> Place:
        return places.take(lambda: closed.append(name), lambda: name in unread)

    a, b, c = map(take, "abc")
    a.begin_request()
    b.begin_request()
    b.begin_request()
    b.end_request()  # of two
    await trio.sleep(FRESH_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.make_room)
        await trio.sleep(5)
        assert closed == []  # a request is there and not read yet
        unread.clear()
    assert closed == ["c"]
    a.end_request()
    c.leave()  # it is known already
    take("d").begin_request()
    await places.make_room()
    assert closed == ["c", "a"]
    take("e").begin_request()
    assert caplog.messages == []
    with trio.move_on_after(60) as patience:
        await places.make_room()
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.make_room)
        await wait_all_tasks_blocked()
        b.end_request()
    assert closed == ["c", "a", "b"]
    assert caplog.messages == ["3 connections are busy, as many as there can be; others wait"]


async def test_a_client_that_says_nothing_has_ten_seconds(autojump_clock: MockClock) -> None:
    closed: list[str] = []
    places = Places(9)
    silent, asking = (
        places.take(lambda: closed.append("silent"), bool),
        places.take(lambda: closed.append("asking"), bool),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(silent.close_unless_asked)
        nursery.start_soon(asking.close_unless_asked)
        await trio.sleep(HEAD_TIMEOUT_S - 1)
        asking.begin_request()
        asking.end_request()
        assert closed == []
    assert closed == ["silent"]


async def test_where_no_descriptor_is_left_one_line_says_so_and_it_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    short = [OSError(errno.EMFILE, "Too many open files") for _ in range(50)]
    idle, stream = Stream(), Stream()
    listener = Listener(idle, *short, stream)
    async with accepted(listener, 9) as conversations:
        await trio.sleep(6)
        assert set(conversations.places) == {stream}
    assert idle.is_closed
    assert caplog.messages == ["no connection can be accepted (Too many open files), it is tried again and again"]
    assert len(listener.asked_at) == 53
    with pytest.RaisesGroup(OSError):
        await accept(Listener(OSError(errno.EBADF, "Bad file descriptor")), Places(9), Conversations())


def test_there_are_fewer_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {256: 96, 1024: 480, 10: 1, 1_000_000: 4096, resource.RLIM_INFINITY: 4096}
    for soft, most in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert max_connections() == most


async def test_silent_connections_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "max_connections", lambda: 3)
    monkeypatch.setattr(accepting, "FRESH_S", 0.01)
    caplog.set_level(logging.WARNING)
    async with simulator() as ask:
        silent = [await trio.open_tcp_stream("127.0.0.1", ask.port) for _ in range(8)]
        for client in silent[5:]:
            await client.send_all(SILENT)
        answers = [await ask(path="/health", method="GET") for _ in range(3)]
        for client in silent:
            await client.aclose()
    assert [answer.status for answer in answers] == [200] * 3
    assert caplog.messages == []


async def test_of_many_clients_at_once_each_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "max_connections", lambda: 3)
    answers: list[bytes] = []

    async def ask_once(port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as client:
            await client.send_all(request_bytes(question()))
            data = b""
            while not data.endswith(b"}"):
                piece = await client.receive_some()
                assert piece
                data += piece
            answers.append(data[:12])

    async with simulator() as ask:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(ask_once, ask.port)
    assert answers == [b"HTTP/1.1 200"] * 40


async def test_the_head_of_a_request_has_to_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "HEAD_TIMEOUT_S", 0.01)
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(SILENT)
        with trio.fail_after(10):
            assert await client.receive_some() == b""


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("/v1/chat/completions", None, 408),
        ("/v1/chat/completions", "none", 408),
        ("/v1/chat/completions", "latency=1ms", 408),
        ("/v1/chat/completions", "status=503", 503),
        ("/v1/chat/completions", "no such fault", 400),
        ("/nothing", None, 408),
        ("/health", None, 408),
        ("/__sim/requests", None, 408),
    ],
)
async def test_a_body_that_stays_away_is_not_waited_for_without_end(
    path: str, said: str | None, status: int, autojump_clock: MockClock
) -> None:
    pieces = [b"{", b'"', b"x"]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            await trio.sleep_forever()
        await trio.sleep(MAX_SILENCE_S - 1)
        return {"type": "http.request", "body": pieces.pop(), "more_body": True}

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    faults = FaultInjection(create_app(SimulatorSettings()), None, None)
    app = Exchange(Journal(faults, faults.forget))
    headers = [(b"x-simulate", said.encode())] if said else []
    begin = trio.current_time()
    with trio.fail_after(600):
        await app(scope_of(path, headers), receive, send)  # type: ignore[arg-type]
    assert statuses == [status]
    assert trio.current_time() - begin == pytest.approx(4 * MAX_SILENCE_S - 3, abs=0.1)


def scope_of(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "state": {"connection": StillThere()},
    }


class StillThere:
    """A connection that its client keeps."""

    has_left = is_lost = was_reset = False
    garbage_bytes = 0

    async def left(self) -> None:
        await trio.sleep_forever()
