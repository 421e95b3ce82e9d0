"""Clients that come at once are taken at once; those that are there still get their turn."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from vastar_runtime.server.accepting import MAX_IN_A_ROW, EagerListener


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(Path(directory) / "s"))
        listening.listen(256)
        listening.setblocking(False)
        yield listening


@contextlib.contextmanager
def waiting(listening: socket.socket, clients: int) -> Iterator[list[socket.socket]]:
    """Clients that have connected, and wait to be accepted."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(clients)]
        for client in opened:
            client.connect(listening.getsockname())
        yield opened


def eager(listening: socket.socket) -> EagerListener:
    return EagerListener(trio.SocketListener(trio.socket.from_stdlib_socket(listening)))


class Turns(trio.abc.Instrument):
    """How often the loop has gone round, so that others got their turn."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_those_that_wait_are_taken_in_one_turn_and_then_it_is_the_others(listening: socket.socket) -> None:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    with waiting(listening, MAX_IN_A_ROW + 1) as clients:
        async with eager(listening) as listener:
            accepted = [await listener.accept() for _ in range(MAX_IN_A_ROW)]
            assert turns.count == 0
            accepted.append(await listener.accept())
            assert turns.count > 0
            for number, (client, stream) in enumerate(zip(clients, accepted, strict=True)):
                client.sendall(b"%d" % number)
                assert await stream.receive_some() == b"%d" % number
                await stream.aclose()


async def test_it_waits_for_the_next_one(listening: socket.socket, nursery: trio.Nursery) -> None:
    async with eager(listening) as listener:
        with trio.move_on_after(0):
            await listener.accept()
            raise AssertionError("nobody has connected")
        accepted = []

        async def accept() -> None:
            accepted.append(await listener.accept())

        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        with waiting(listening, 1):
            with trio.fail_after(5):
                while not accepted:
                    await trio.lowlevel.checkpoint()
            await accepted[0].aclose()


async def test_after_its_end_nobody_can_connect(listening: socket.socket) -> None:
    path = listening.getsockname()
    await eager(listening).aclose()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(path)
