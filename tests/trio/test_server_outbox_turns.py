"""Whole answers leave once in each turn of the loop, and nothing is lost or held back by that."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from vastar_runtime.server.memory import MemoryBudget
from vastar_runtime.server.outbox import Outbox


class Client:
    """The other end of a connection; it reads when it is told to, and never waits."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def read(self) -> bytes:
        """What one read brings."""
        try:
            return self._end.recv(1 << 20)
        except BlockingIOError:
            return b""

    def read_all(self) -> bytes:
        """Everything that is there."""
        return b"".join(iter(self.read, b""))


class Connection:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.memory = MemoryBudget()
        self.outbox = Outbox(trio.SocketStream(trio.socket.from_stdlib_socket(near)), self.memory)
        self.client = Client(far)


@pytest.fixture
def connection() -> Iterator[Connection]:
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        yield Connection(near, far)


async def test_the_answers_of_one_turn_are_one_write(connection: Connection) -> None:
    outbox, client = connection.outbox, connection.client
    for number in range(5):
        outbox.put(b"%d" % number, number, may_wait=True)
    assert client.read() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert client.read() == b"01234"
    assert connection.memory.held_bytes == 0
    await outbox.drained()


async def test_what_may_not_wait_goes_at_once_unless_something_is_before_it(connection: Connection) -> None:
    outbox, client = connection.outbox, connection.client
    outbox.put(b"chunk", 1)
    assert client.read() == b"chunk"
    outbox.put(b"answer", 2, may_wait=True)
    outbox.put(b"chunk", 1)
    assert client.read() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert client.read() == b"answerchunk"


async def test_what_the_kernel_does_not_take_is_the_writers(connection: Connection, nursery: trio.Nursery) -> None:
    outbox, client = connection.outbox, connection.client
    nursery.start_soon(outbox.run)
    answers = [b"%07d" % number * 20_000 for number in range(20)]
    for number, answer in enumerate(answers):
        outbox.put(answer, number, may_wait=True)
    read = b""
    with trio.fail_after(10):
        while len(read) < sum(map(len, answers)):
            read += client.read_all()
            await trio.lowlevel.checkpoint()
    assert read == b"".join(answers)
    await outbox.drained()
    assert connection.memory.held_bytes == 0


@pytest.mark.parametrize("time", range(20))  # the writer and the turn are due at once, and either may be first
async def test_the_writer_goes_on_when_the_turn_has_left_it_nothing(
    connection: Connection, nursery: trio.Nursery, time: int
) -> None:
    outbox, client = connection.outbox, connection.client
    nursery.start_soon(outbox.run)
    await trio.testing.wait_all_tasks_blocked()
    large = bytes(300_000)  # more than the kernel takes at once, and less than it takes at twice
    outbox.put(large, 1)  # in part
    read = client.read_all()
    outbox.put(b"answer", 2, may_wait=True)
    with trio.fail_after(10):
        while len(read) < len(large) + 6:
            await trio.lowlevel.checkpoint()
            read += client.read_all()
    assert read == large + b"answer"
    outbox.put(large, 3)
    outbox.put(b"last", 4, may_wait=True)
    outbox.finish()
    read = b""
    with trio.fail_after(10):
        while len(read) < len(large) + 4:
            await trio.lowlevel.checkpoint()
            read += client.read_all()
    assert read == large + b"last"


async def test_finishing_waits_for_what_is_due(connection: Connection, nursery: trio.Nursery) -> None:
    outbox, client = connection.outbox, connection.client
    outbox.put(b"answer", 1, may_wait=True)
    outbox.finish()
    with trio.fail_after(10):
        await outbox.run()
    assert client.read() == b"answer"


async def test_a_client_that_has_gone_is_the_writers_to_find_out(connection: Connection) -> None:
    outbox = connection.outbox
    connection.client._end.close()
    outbox.put(b"answer", 1, may_wait=True)
    with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
        await outbox.run()
