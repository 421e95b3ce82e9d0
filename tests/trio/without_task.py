"""For the stories of requests without a task: kept connections over real sockets, and who got a task after all."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from http_upstream import Peer
from policed_session import (
    Policed,
    Step,
)
from session_under_test import captured_log, sockets

from vastar_runtime.server import running, session


class Tasks:
    """Counts how often a request was given to a task: a new one, or one that had ended another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        give = session.Session.run_in_task

        def counted(of: session.Session, request: running.RunningRequest) -> None:
            self.count += 1
            give(of, request)

        monkeypatch.setattr(session.Session, "run_in_task", counted)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return Tasks(monkeypatch)


@pytest.fixture(autouse=True)
def over_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policed_session._pair", sockets)


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


async def kept(world: Policed, tasks: Tasks | None = None) -> None:
    """One request, after which its connection is kept."""
    assert (await world.send()).status == 200
    assert world.pool.statistics().idle == 1
    if tasks is not None:
        tasks.count = 0


def raw(data: bytes) -> Step:
    """These bytes, and the connection is kept."""

    async def step(peer: Peer) -> None:
        await peer.send(data)

    return step


def in_two(data: bytes, at: int) -> Step:
    async def step(peer: Peer) -> None:
        await peer.send(data[:at])
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(data[at:])

    return step


def steps(*data: bytes) -> Step:
    """Each of these as an arrival of its own."""

    async def step(peer: Peer) -> None:
        for piece in data:
            await peer.send(piece)
            await trio.testing.wait_all_tasks_blocked()

    return step


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
