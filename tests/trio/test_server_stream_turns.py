"""Streams take turns; a client that does not read costs a bounded amount of memory, and no one else anything."""

import contextlib
from itertools import groupby

import pytest
import trio
from session_under_test import HEALTH, captured_log, session
from stream_client import CHUNKED, MemoryUpstream, body, chunk, delivered, end, greet, head, piece
from stream_client import stream_request as asked_for
from trio.testing import lockstep_stream_pair
from wire_client import WireClient

from connector_sdk.wire import BodyChunk, Cancel, ErrorClass, HealthCheck, HealthCheckResponse, ResponseEnd
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server import outbox
from vastar_runtime.server.memory import MemoryBudget
from vastar_runtime.server.session import Session
from vastar_runtime.server.streamed import MAX_CHUNK_BYTES

MEBIBYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
def up(nursery):
    """What an upstream sends has left it once the daemon has read it."""
    return MemoryUpstream(nursery, pair=lockstep_stream_pair)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def flooding(client, up, nursery, request_id: int, size: int = MEBIBYTE):
    """A stream whose upstream sends as fast as it may."""
    await client.send(asked_for(request_id))
    peer = await up.asked()

    async def flood() -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # most stories end before the flood does
            await peer.send(body(bytes(size)))

    nursery.start_soon(flood)
    return peer


async def test_two_fast_streams_of_one_connection_take_turns_frame_by_frame(up, nursery):
    async with session(up.services, pair=lockstep_stream_pair) as (client, _):
        await greet(client, window_bytes=4 * MEBIBYTE)
        for request_id in (1, 2):
            await flooding(client, up, nursery, request_id)
        await settled()
        order, sizes = [], {1: 0, 2: 0}
        while len(order) < 1000 and set(sizes.values()) != {MEBIBYTE}:
            message = await client.receive()
            if isinstance(message, BodyChunk):
                order.append(message.request_id)
                sizes[message.request_id] += len(message.data)
                await settled()  # the daemon may do all it can between two frames
        assert set(sizes.values()) == {MEBIBYTE}
        together = order[: min(_last(order, 1), _last(order, 2)) + 1]
        assert len(together) > 20
        # A write in progress when the other stream began, and then one each.
        runs = [len(list(run)) for _, run in groupby(together)]
        assert max(runs[1:]) == 1, order


def _last(order: list[int], request_id: int) -> int:
    return len(order) - 1 - order[::-1].index(request_id)


async def test_a_small_answer_does_not_wait_behind_a_stream_s_window(up, nursery):
    async with session(up.services, pair=lockstep_stream_pair) as (client, _):
        await greet(client, window_bytes=4 * MEBIBYTE)
        await flooding(client, up, nursery, 1, size=3 * MEBIBYTE)
        await settled()
        await client.send(HealthCheck(), asked_for(2))
        await (await up.asked()).send(body(b"small"))
        await settled()
        before = 0
        seen = set()
        while seen != {"health", "small"}:
            match await client.receive():
                case HealthCheckResponse():
                    seen.add("health")
                case ResponseEnd(request_id=2):
                    seen.add("small")
                case BodyChunk(request_id=1, data=data):
                    before += len(data)
        assert before <= outbox.WRITE_BYTES + 4 * MAX_CHUNK_BYTES


async def test_an_upstream_that_sends_byte_by_byte_to_a_client_that_pauses_stalls_and_goes_on(up, nursery, monkeypatch):
    """However small the pieces, they never add up to the frames at which a client is given up."""
    monkeypatch.setattr(outbox, "MAX_PENDING_FRAMES", 100)
    sent = 0

    async def drip(peer) -> None:
        nonlocal sent
        for _ in range(500):
            await peer.send(chunk(b"x"))
            sent += 1
        await peer.send(chunk(b""))

    async with session(up.services, pair=lockstep_stream_pair, idle_timeout_s=30) as (client, _):
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        await peer.send(CHUNKED)
        nursery.start_soon(drip, peer)
        await settled()
        assert sent < 20
        stream = await delivered(client)
        assert (stream.data, stream.error_class) == (b"x" * 500, ErrorClass.SUCCESS)


async def test_a_client_that_does_not_read_is_not_timed_out_by_the_idle_time_and_can_cancel(
    up, nursery, autojump_clock
):
    async with session(up.services, pair=lockstep_stream_pair, idle_timeout_s=30) as (client, _):
        await greet(client, window_bytes=4 * MEBIBYTE)
        peer = await flooding(client, up, nursery, 1, size=2 * MEBIBYTE)
        await trio.sleep(1000)
        await client.send(Cancel(request_id=1))
        await peer.gone()
        await head(client)
        while isinstance(message := await client.receive(), BodyChunk):
            pass
        assert isinstance(message, ResponseEnd)
        assert message.error_class is ErrorClass.CANCELLED
        assert up.is_idle()


async def test_what_a_client_that_does_not_read_makes_the_daemon_hold_is_bounded_whatever_its_window(up, nursery):
    streams = 40
    memory = MemoryBudget()
    client_end, daemon_end = lockstep_stream_pair()
    served = Session(daemon_end, up.services, Pipeline(), health=lambda: HEALTH, memory=memory)
    nursery.start_soon(served.run)
    client = WireClient(client_end)
    await greet(client, window_bytes=4 * MEBIBYTE)
    for request_id in range(streams):
        await flooding(client, up, nursery, request_id)
    await settled()
    bound = outbox.WRITE_BYTES + streams * (outbox.MAX_WAITING_CHUNKS + 1) * (MAX_CHUNK_BYTES + 1000)
    assert streams * MAX_CHUNK_BYTES < memory.held_bytes < bound
    await client.close()
    await settled()
    assert memory.held_bytes == 0
    assert up.is_idle()


async def test_other_connections_go_on_beside_one_that_does_not_read(up, nursery):
    async with (
        session(up.services, pair=lockstep_stream_pair) as (stuck, _),
        session(up.services) as (client, _),
    ):
        await greet(stuck)
        await flooding(stuck, up, nursery, 1)
        await settled()
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        await peer.send(CHUNKED + chunk(b"fine"))
        await head(client)
        assert await piece(client) == b"fine"
        await peer.send(chunk(b""))
        assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_a_client_given_up_for_not_reading_is_no_mistake_of_ours(up, log, monkeypatch):
    """It is the head of a stream that finds no room any more."""
    monkeypatch.setattr(outbox, "MAX_PENDING_FRAMES", 10)
    async with session(up.services, pair=lockstep_stream_pair) as (client, _):
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        await client.send(HealthCheck())
        await settled()  # this answer is being written
        await client.send(*[HealthCheck()] * 10)
        await settled()
        await peer.send(CHUNKED)
        await peer.gone()
    assert "the client does not read its answers" in log.getvalue()
    assert "internal error" not in log.getvalue()


async def test_a_client_for_whose_goaway_there_is_no_room_gets_what_it_asked_for_and_then_the_end(up, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_PENDING_FRAMES", 10)
    async with session(up.services, pair=lockstep_stream_pair) as (client, served):
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        for count in (1, 10):  # one is being written, ten wait behind it
            await client.send(*[HealthCheck()] * count)
            await settled()
        served.drain()
        for _ in range(11):
            assert isinstance(await client.receive(), HealthCheckResponse)
        await peer.send(body(b"hello"))
        # Without giving credit back: the daemon is gone once it has said all.
        head, piece, end = [await client.receive() for _ in range(3)]
        assert (head.status_code, piece.data, end.error_class) == (200, b"hello", ErrorClass.SUCCESS)
        await client.end()
