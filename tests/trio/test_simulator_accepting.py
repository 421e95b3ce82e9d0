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
from simulator_client import simulator
from trio.testing import MockClock, wait_all_tasks_blocked

from vastar_runtime.simulator import accepting, body
from vastar_runtime.simulator.accepting import HEAD_TIMEOUT_S, Place, Places, accept, max_connections
from vastar_runtime.simulator.api_error import ApiError

SILENT = b"GET /health HTTP/1.1\r\nX: "


class Stream:
    """A connection that was accepted."""

    def __init__(self) -> None:
        self.is_closed = False
        self.socket = self

    def close(self) -> None:
        self.is_closed = True


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
        await trio.sleep(2)
        assert set(conversations.places) == {second, third}
    assert first.is_closed


async def test_the_idle_give_way_in_their_order_and_the_busy_never(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []
    places = Places(3)
    a, b, c = (places.take(lambda name=name: closed.append(name)) for name in "abc")  # type: ignore[misc]
    a.begin_request()
    b.begin_request()
    b.begin_request()
    b.end_request()  # of two
    a.end_request()
    await places.make_room()
    assert closed == ["c"]
    c.leave()  # it is known already
    places.take(lambda: closed.append("d")).begin_request()
    await places.make_room()
    assert closed == ["c", "a"]
    places.take(lambda: closed.append("e")).begin_request()
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
    silent, asking = places.take(lambda: closed.append("silent")), places.take(lambda: closed.append("asking"))
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


async def test_the_head_of_a_request_has_to_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "HEAD_TIMEOUT_S", 0.01)
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(SILENT)
        with trio.fail_after(10):
            assert await client.receive_some() == b""


async def test_a_body_that_stays_away_is_not_waited_for_without_end(autojump_clock: MockClock) -> None:
    class Trickling:
        async def stream(self) -> AsyncIterator[bytes]:
            for _ in range(3):
                await trio.sleep(body.MAX_SILENCE_S - 1)
                yield b"x"
            await trio.sleep_forever()

    begin = trio.current_time()
    with pytest.raises(ApiError) as caught:
        await body.read_body(Trickling())  # type: ignore[arg-type]
    assert caught.value.status == 408
    assert trio.current_time() - begin == pytest.approx(4 * body.MAX_SILENCE_S - 3)
