"""Credit: a stream has at most its window on the way; one without credit stops its upstream and nothing else."""

import time

import pytest
import trio
from session_under_test import captured_log, session
from stream_client import CHUNKED, HOST, OK, MemoryUpstream, body, chunk, delivered, end, greet, head, piece
from stream_client import stream_request as asked_for

from connector_sdk.wire import Cancel, CreditUpdate, ErrorClass

WINDOW = 1000


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
def up(nursery):
    """What an upstream sends has left it once the daemon has read it."""
    return MemoryUpstream(nursery, pair=trio.testing.lockstep_stream_pair)


@pytest.fixture
async def client(up):
    async with session(up.services, idle_timeout_s=30) as (client, _):
        await greet(client, WINDOW)
        yield client
        assert up.is_idle()


async def nothing_more(client) -> None:
    """Nothing comes, however long one waits."""
    with trio.move_on_after(0.001) as waiting:
        message = await client.receive()
        raise AssertionError(message)
    assert waiting.cancelled_caught


def credit(delta: int, request_id: int = 1) -> CreditUpdate:
    return CreditUpdate(request_id=request_id, credit_delta=delta)


async def stalled(client, up, request_id: int = 1, sent: bytes = body(bytes(3 * WINDOW)), **fields):
    """A stream that has used up its window; its upstream's side."""
    await client.send(asked_for(request_id, **fields))
    peer = await up.asked()
    await peer.send(sent)
    await head(client, request_id)
    received = 0
    while received < WINDOW:
        received += len(await piece(client, request_id))
    assert received == WINDOW
    return peer


async def test_no_more_than_the_window_is_on_the_way_and_each_grant_brings_as_much(client, up, autojump_clock):
    await stalled(client, up)
    await nothing_more(client)
    for grant in (1, 10, 500):
        await client.send(credit(grant))
        assert len(await piece(client)) == grant
        await nothing_more(client)
    await client.send(credit(2 * WINDOW - 511))
    assert len(await piece(client)) == 2 * WINDOW - 511
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_a_stream_without_credit_stops_reading_and_the_others_go_on(client, up, nursery, autojump_clock):
    peer = await stalled(client, up, sent=CHUNKED + chunk(bytes(WINDOW)))
    await peer.send(chunk(b"waits in the daemon"))
    sent = trio.Event()

    async def send_more() -> None:
        await peer.send(chunk(b"more"))
        sent.set()

    nursery.start_soon(send_more)
    await trio.sleep(1000)
    assert not sent.is_set()

    await client.send(asked_for(2))
    await (await up.asked()).send(body(b"fast"))
    assert (await delivered(client, 2)).data == b"fast"
    assert (await client.health()).healthy
    assert not sent.is_set()

    await client.send(credit(100))
    assert await piece(client) == b"waits in the daemon"
    assert await piece(client) == b"more"
    assert sent.is_set()
    await peer.send(chunk(b""))
    assert (await end(client)).error_class is ErrorClass.SUCCESS


BAD = {
    "negative": (-1, "credit_delta -1 is negative"),
    "the most negative": (-(2**31), "is negative"),
    "over 2^31 - 1": (2**31 - 1, "over 2147483647"),
}


@pytest.mark.parametrize(("delta", "words"), BAD.values(), ids=BAD)
async def test_a_bad_grant_ends_its_stream_and_closes_its_upstream_and_nothing_else(client, up, delta, words):
    await client.send(asked_for(2))
    neighbour = await up.asked()
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED)
    await head(client)
    await client.send(credit(delta), credit(delta), Cancel(request_id=1), credit(5))
    last = await end(client)
    assert last.error_class is ErrorClass.INVALID_REQUEST
    assert words in last.error_message
    await peer.gone()
    await neighbour.send(body(b"fine"))
    assert (await delivered(client, 2)).data == b"fine"


async def test_a_bad_grant_ends_a_stream_that_waits_for_credit(client, up):
    peer = await stalled(client, up)
    await client.send(credit(-5))
    assert (await end(client)).error_class is ErrorClass.INVALID_REQUEST
    await peer.gone()


async def test_a_grant_up_to_the_limit_is_fine(client, up):
    peer = await stalled(client, up, sent=CHUNKED + chunk(bytes(WINDOW)))
    await client.send(credit(2**31 - 1))
    await peer.send(chunk(b"x") + chunk(b""))
    assert await piece(client) == b"x"
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_a_grant_for_a_finished_an_unknown_or_a_buffered_request_is_ignored(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(body(b"x"))
    await delivered(client)
    await client.send(credit(-1), credit(2**31 - 1), credit(1, request_id=99), credit(-1, request_id=0))
    buffered = await client.begin({"url": "http://other.test/"})
    peer = await up.asked()
    await client.send(credit(-1, request_id=buffered))
    await peer.send(body(b"y"))
    assert (await client.answer()).body == "y"


async def test_a_client_that_never_grants_is_never_timed_out_by_the_idle_time(client, up, autojump_clock):
    await stalled(client, up)
    await trio.sleep(1_000_000)
    await client.send(Cancel(request_id=1))
    assert (await end(client)).error_class is ErrorClass.CANCELLED


async def test_a_client_that_never_grants_is_timed_out_by_its_own_timeout(client, up, autojump_clock):
    peer = await stalled(client, up, parameters={"timeout_ms": 60_000})
    began_at = trio.current_time()
    last = await end(client)
    assert trio.current_time() - began_at == pytest.approx(60)
    assert last.error_class is ErrorClass.TIMEOUT
    assert "60000 ms passed (timeout_ms) while waiting for the client to read" in last.error_message
    await peer.gone()


async def test_a_client_that_never_grants_is_timed_out_by_its_own_deadline(client, up, autojump_clock):
    await stalled(client, up, deadline_at_ms=int(time.time() * 1000) + 60_000)
    last = await end(client)
    assert last.error_class is ErrorClass.TIMEOUT
    assert "(deadline_at_ms) while waiting for the client to read" in last.error_message


async def test_after_a_grant_the_upstream_s_idle_time_counts_again_and_the_error_names_it(client, up, autojump_clock):
    await stalled(client, up, sent=OK + b"Content-Length: 2000\r\n\r\n" + bytes(WINDOW + 1))
    await trio.sleep(1000)
    await client.send(credit(WINDOW))
    granted_at = trio.current_time()
    assert len(await piece(client)) == 1
    last = await end(client)
    assert trio.current_time() - granted_at == pytest.approx(30)
    assert last.error_class is ErrorClass.TIMEOUT
    assert (
        f"nothing moved for 30 s (deadline.idle_timeout_ms) while reading the response body from {HOST}"
        in last.error_message
    )


async def test_a_grant_of_nothing_changes_nothing(client, up, autojump_clock):
    await stalled(client, up)
    await client.send(credit(0))
    await trio.sleep(1000)
    await nothing_more(client)
    await client.send(credit(2 * WINDOW))
    assert len(await piece(client)) == 2 * WINDOW
    assert (await end(client)).error_class is ErrorClass.SUCCESS


async def test_every_stream_has_a_window_of_its_own_and_a_new_one_under_an_old_id(client, up):
    for request_id in (1, 2, 3):
        await stalled(client, up, request_id)
    for request_id in (1, 2, 3):
        await client.send(Cancel(request_id=request_id))
        assert (await end(client, request_id)).error_class is ErrorClass.CANCELLED
    await stalled(client, up, 1)
    await client.send(Cancel(request_id=1))
    await end(client)
