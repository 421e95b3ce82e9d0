"""A stream that nobody wants any more: its upstream sees the connection close within 50 ms, in every phase."""

import statistics

import pytest
import trio
from daemon_process import daemon
from stream_client import CHUNKED, OK, chunk, end, greet, stream_request
from upstream import Peer, upstream
from wire_client import connected

from connector_sdk.wire import BodyChunk, Cancel, ErrorClass, ResponseHead

LIMIT_S = 0.05
ROUNDS = 5  # other processes share the machine: the median is the daemon's own


class Noticing:
    """An upstream that sends ``data`` to each request, says that it is there, and then notes when it is left."""

    def __init__(self, data: bytes, *, reads_request: bool = True) -> None:
        self._data = data
        self._reads_request = reads_request
        self._there, self.there = trio.open_memory_channel[None](100)
        self._left, self.left_at = trio.open_memory_channel[float](100)

    async def script(self, peer: Peer) -> None:
        if self._reads_request:
            await peer.request()
        else:
            await peer.stream.receive_some()
        await self._there.send(None)
        try:
            await peer.send(self._data)
        except trio.BrokenResourceError:
            pass  # left while it was sending
        else:
            await peer.gone()
        await self._left.send(trio.current_time())


PHASES = {
    "handshake": ("https", b"", 0),
    "awaiting the head": ("http", b"", 0),
    "mid-body": ("http", CHUNKED + chunk(b"half"), 4),
    "waiting for credit": ("http", OK + b"\r\n" + bytes(64 * 1024 * 1024), 262_144),
}


@pytest.mark.parametrize("how", ["cancel", "vanish", "vanish in the middle of a frame", "vanish from TCP"])
@pytest.mark.parametrize(("scheme", "data", "body_bytes"), PHASES.values(), ids=PHASES)
async def test_the_upstream_sees_it_at_once(running, how, scheme, data, body_bytes):
    noticing = Noticing(data, reads_request=scheme == "http")
    took_s = []
    async with upstream(noticing.script) as up, running.connect() as witness:
        for _ in range(ROUNDS):
            async with connected(running.tcp_port if "TCP" in how else running.socket_path) as client:
                await greet(client)
                await client.send(stream_request(1, f"{scheme}://{up.address}/"))
                await noticing.there.receive()
                await received(client, body_bytes)
                began_at = trio.current_time()
                if how == "cancel":
                    await client.send(Cancel(request_id=1))
                    assert (await end(client)).error_class is ErrorClass.CANCELLED
                else:
                    await client.send(b"\0\0\1\0\0half" if "frame" in how else b"")
                    await client.close()
                took_s.append(await noticing.left_at.receive() - began_at)
        assert (await witness.health()).healthy
    assert statistics.median(took_s) < LIMIT_S, took_s


async def received(client, body_bytes: int) -> None:
    """Read the head, if there is one to come, and so much of the body."""
    if body_bytes:
        assert isinstance(await client.receive(), ResponseHead)
    while body_bytes:
        message = await client.receive()
        assert isinstance(message, BodyChunk)
        body_bytes -= len(message.data)


async def test_no_slot_is_lost_by_a_thousand_cancelled_streams():
    """There are 256 slots for an origin; a lost one would be missing by now."""
    silent = Noticing(b"")
    async with upstream(silent.script) as up:
        with daemon() as process:
            async with process.connect() as client:
                await greet(client)
                for first in range(0, 1000, 250):
                    numbers = range(first, first + 250)
                    await client.send(*(stream_request(number, up.origin) for number in numbers))
                    for _ in numbers:
                        await silent.there.receive()
                    await client.send(*(Cancel(request_id=number) for number in numbers))
                    ends = [await client.receive() for _ in numbers]
                    assert sorted(message.request_id for message in ends) == list(numbers)
                    assert {message.error_class for message in ends} == {ErrorClass.CANCELLED}
                    for _ in numbers:
                        await silent.left_at.receive()
                assert (await client.health()).active_requests == 0
            assert process.stop() == 0
            assert "internal error" not in process.log
