"""The one writer of a connection: frames leave whole and at once; what the kernel does not take waits for it."""

import socket

import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from vastar_runtime.server.memory import MemoryBudget
from vastar_runtime.server.outbox import MAX_WAITING_CHUNKS, Outbox


def unix_pair() -> tuple[trio.SocketStream, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), theirs


async def test_a_frame_is_with_the_client_before_any_task_has_run() -> None:
    stream, client = unix_pair()
    async with stream:
        with client:
            Outbox(stream, MemoryBudget()).put(b"frame")
            assert client.recv(100, socket.MSG_DONTWAIT) == b"frame"


async def test_nothing_comes_between_the_parts_of_a_frame_that_the_kernel_tore() -> None:
    stream, client = unix_pair()
    memory = MemoryBudget()
    frames = [bytes([number]) * 100_000 for number in range(5)]
    received = bytearray()
    async with stream, trio.open_nursery() as nursery:
        outbox = Outbox(stream, memory)
        for number, frame in enumerate(frames):
            outbox.put(frame, request_id=9 - number)
        assert 0 < memory.held_bytes < 500_000  # a part of the first has gone already
        outbox.finish()
        nursery.start_soon(outbox.run)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as reader:
            while len(received) < 500_000:
                received += await reader.receive_some()
    assert bytes(received) == b"".join(frames)
    assert memory.held_bytes == 0


async def test_a_client_that_is_gone_is_for_the_writer_to_tell() -> None:
    stream, client = unix_pair()
    client.close()
    async with stream:
        outbox = Outbox(stream, MemoryBudget())
        outbox.put(b"frame")
        try:
            await outbox.run()
        except trio.BrokenResourceError:
            return
    raise AssertionError("the writer ended well")


async def test_streams_go_on_chunk_by_chunk_when_memory_is_short() -> None:
    ours, _ = memory_stream_pair()
    all_connections = MemoryBudget(limit_bytes=10)
    outbox = Outbox(ours, MemoryBudget(parent=all_connections))
    for _ in range(MAX_WAITING_CHUNKS - 1):
        outbox.put(b"chunk", 1)
    assert outbox.full(2) is None
    room = outbox.full(1)
    assert room is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        await wait_all_tasks_blocked()
        assert room.is_set()
        assert outbox.full(1) is None
        nursery.cancel_scope.cancel()
