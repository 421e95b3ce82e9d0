"""Who is called when a socket can be read."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from session_under_test import captured_log

from vastar_runtime.http import readiness
from vastar_runtime.http.readiness import at_end_of_turn, is_turn, watch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        ours.setblocking(False)
        yield ours, theirs


async def test_for_as_long_as_there_is_something_to_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    watched = watch(ours.fileno(), lambda: read.append(ours.recv(2)))
    theirs.send(b"abcde")
    await trio.testing.wait_all_tasks_blocked()
    assert read == [b"ab", b"cd", b"e"]
    watched.stop()
    watched.stop()
    theirs.send(b"f")
    await trio.testing.wait_all_tasks_blocked()
    assert (len(read), watched.is_on) == (3, False)


async def test_where_nobody_is_to_be_called_watching_ends_by_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    watched = watch(ours.fileno(), lambda: None)
    watched.call = None
    theirs.close()
    await trio.testing.wait_all_tasks_blocked()
    assert not watched.is_on


async def test_one_that_is_stopped_by_another_of_the_same_turn_is_not_called(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    calls: list[str] = []

    def call(name: str, reads: socket.socket, other: str) -> None:
        calls.append(name)
        reads.recv(10)
        watches[other].stop()

    watches = {
        "ours": watch(ours.fileno(), lambda: call("ours", ours, "theirs")),
        "theirs": watch(theirs.fileno(), lambda: call("theirs", theirs, "ours")),
    }
    ours.send(b"x")
    theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert len(calls) == 1
    watches[calls[0]].stop()


async def test_what_is_for_the_end_of_the_turn_is_called_then(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    calls: list[str] = []
    assert not at_end_of_turn(lambda: calls.append("never"))

    def call() -> None:
        assert is_turn()
        ours.recv(10)
        for number in range(readiness.MAX_CALLS_AT_END + 1):
            assert at_end_of_turn(lambda number=number: calls.append(f"{number}"))  # type: ignore[misc]
        calls.append("read")

    watched = watch(ours.fileno(), call)
    theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    # No more of them wait than may.
    most = [str(number) for number in range(readiness.MAX_CALLS_AT_END)]
    assert calls == [*most, "read", str(readiness.MAX_CALLS_AT_END)]
    assert not is_turn()
    watched.stop()


async def test_in_a_long_turn_nothing_waits_for_its_end(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(readiness, "MAX_WAIT_NS", -1)  # every turn is long
    calls: list[str] = []

    def call(name: str, end: socket.socket) -> None:
        end.recv(10)
        calls.append(name)
        at_end_of_turn(lambda: calls.append(f"end of {name}"))

    watches = [watch(ours.fileno(), lambda: call("a", ours)), watch(theirs.fileno(), lambda: call("b", theirs))]
    ours.send(b"x")
    theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert calls in (["a", "end of a", "b", "end of b"], ["b", "end of b", "a", "end of a"])
    for watched in watches:
        watched.stop()


async def test_a_mistake_in_one_call_ends_no_other(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    calls: list[str] = []

    def call() -> None:
        ours.recv(10)
        at_end_of_turn(lambda: os.close(-1))
        at_end_of_turn(lambda: calls.append("end"))
        raise ZeroDivisionError

    watched = watch(ours.fileno(), call)
    with captured_log() as log:
        for _ in range(2):
            theirs.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
    assert calls == ["end", "end"]
    assert log.getvalue().count('event="internal error"') == 4
    assert "ZeroDivisionError" in log.getvalue()
    assert "OSError" in log.getvalue()
    watched.stop()


async def test_what_cannot_be_watched_is_not_kept(tmp_path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        watch(file.fileno(), lambda: None)
    assert readiness._of_this_run.get()._watches == {}
