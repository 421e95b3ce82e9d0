"""Cancel, and the client's going, in every phase: the upstream connection is closed, the slot is free, the
neighbours go on, and exactly one frame ends the request."""

import pytest
import trio
from session_under_test import captured_log, session
from stream_client import CHUNKED, URL, MemoryUpstream, body, chunk, delivered, end, greet, head, piece
from stream_client import stream_request as asked_for
from wire_client import execute_request

from connector_sdk.wire import Cancel, CreditUpdate, ErrorClass, ExecuteResponse, HealthCheckResponse, ResponseEnd
from vastar_runtime.connectors import Services
from vastar_runtime.http.pool import Pool

NEIGHBOUR = 7
CANCEL = Cancel(request_id=1)


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
def up(nursery):
    return MemoryUpstream(nursery, pool=Pool(limit_per_origin=2), pair=trio.testing.lockstep_stream_pair)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def client(up):
    """A client with another stream under way to the same origin, which must be served after the test."""
    async with session(up.services, idle_timeout_s=30) as (client, served):
        await greet(client, window_bytes=1000)
        await client.send(asked_for(NEIGHBOUR))
        neighbour = await up.asked()
        await neighbour.send(CHUNKED)
        await head(client, NEIGHBOUR)
        yield client
        # The next frame is the neighbour's: nothing was sent twice.
        await neighbour.send(chunk(b"fine"))
        assert await piece(client, NEIGHBOUR) == b"fine"
        await neighbour.send(chunk(b""))
        assert (await end(client, NEIGHBOUR)).error_class is ErrorClass.SUCCESS
        assert served.active_requests == 0
        assert up.is_idle()
        assert up.pool.statistics().idle == 1  # the neighbour's alone


async def cancelled(client, request_id: int = 1) -> ResponseEnd:
    await client.send(Cancel(request_id=request_id))
    last = await end(client, request_id)
    assert (last.error_class, last.error_message) == (ErrorClass.CANCELLED, "cancelled by the client")
    return last


async def test_before_its_task_began(client, up):
    """The request and its Cancel come in one read."""
    await client.send(asked_for(1), CANCEL)
    last = await end(client)
    assert (last.error_class, last.attempts) == (ErrorClass.CANCELLED, 0)


async def test_a_request_that_is_invalid_too_is_cancelled(client):
    await client.send(asked_for(1, "ftp://h/"), CANCEL)
    assert (await end(client)).error_class is ErrorClass.CANCELLED


async def test_queued_for_a_slot(client, up):
    await client.send(asked_for(2))
    other = await up.asked()
    await client.send(asked_for(1))
    await settled()
    assert up.pool.statistics().waiting == 1
    assert (await cancelled(client)).attempts == 0
    assert (up.pool.statistics().waiting, up.pool.statistics().active) == (0, 2)
    await cancelled(client, 2)
    await other.gone()


async def test_given_a_slot_and_cancelled_in_the_same_moment(client, up):
    await client.send(asked_for(2))
    other = await up.asked()
    await client.send(asked_for(1))
    await settled()
    await client.send(Cancel(request_id=2), CANCEL)
    assert {(await client.receive()).request_id, (await client.receive()).request_id} == {1, 2}
    await other.gone()


async def test_sending_a_long_body(client, up):
    await client.send(asked_for(1, parameters={"method": "PUT", "body": "x" * 200_000}))
    peer = await up.peer()
    await settled()
    await cancelled(client)
    await peer.gone()


async def test_awaiting_the_head(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    assert (await cancelled(client)).attempts == 1
    await peer.gone()


async def test_inside_the_head(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-")
    await cancelled(client)
    await peer.gone()


async def test_reading_a_redirect_s_body(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(b"HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 10\r\n\r\nhalf")
    await cancelled(client)
    await peer.gone()


async def test_mid_body(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(b"half"))
    await head(client)
    assert await piece(client) == b"half"
    await cancelled(client)
    await peer.gone()


async def test_waiting_for_credit(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(body(bytes(2000)))
    await head(client)
    assert len(await piece(client)) == 1000
    await cancelled(client)
    await peer.gone()


async def test_granted_and_cancelled_in_the_same_read(client, up):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(bytes(1000)) + chunk(bytes(1000)))
    await head(client)
    received = 0
    while received < 1000:
        received += len(await piece(client))
    await client.send(CreditUpdate(request_id=1, credit_delta=500), CANCEL)
    message = await client.receive()
    while not isinstance(message, ResponseEnd):
        received += len(message.data)
        message = await client.receive()
    assert received <= 1500
    assert message.error_class is ErrorClass.CANCELLED
    await peer.gone()


async def test_a_buffered_request(client, up):
    await client.send(execute_request(1, {"url": URL}))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(b"half"))
    await client.send(CANCEL)
    answer = await client.answer()
    assert (answer.request_id, answer.error_class) == (1, ErrorClass.CANCELLED)
    assert answer.payload is None
    await peer.gone()


async def test_twice_and_after_the_end_it_is_ignored_and_the_id_is_free(client, up):
    await client.send(asked_for(1))
    await up.asked()
    await client.send(CANCEL, CANCEL, Cancel(request_id=99), CreditUpdate(request_id=1, credit_delta=-1))
    assert (await end(client)).error_class is ErrorClass.CANCELLED
    await client.send(CANCEL)
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(CHUNKED + chunk(b"again"))
    await head(client)
    assert await piece(client) == b"again"
    await cancelled(client)


async def test_cancelled_and_asked_again_under_the_same_id_in_one_read(client, up):
    """Until the first one's end is sent, the id is in flight."""
    await client.send(asked_for(1))
    peer = await up.asked()
    await client.send(CANCEL, asked_for(1))
    ends = [await end(client), await end(client)]
    assert {last.error_class for last in ends} == {ErrorClass.CANCELLED, ErrorClass.INVALID_REQUEST}
    await peer.gone()


async def test_a_hundred_at_once(client, up):
    numbers = range(100, 200)
    await client.send(*(asked_for(number) for number in numbers))
    await settled()
    await client.send(*(Cancel(request_id=number) for number in numbers))
    ends = [await client.receive() for _ in numbers]
    assert sorted(last.request_id for last in ends) == list(numbers)
    assert {last.error_class for last in ends} == {ErrorClass.CANCELLED}


async def test_while_connecting():
    class NeverOpens:
        async def dial(self, origin, timeout_s, guard):
            await trio.sleep_forever()

    pool = Pool()
    async with session(Services(pool, NeverOpens())) as (client, _):
        await greet(client)
        await client.send(asked_for(1))
        await settled()
        assert pool.statistics().active == 1
        await cancelled(client)
        assert pool.statistics().active == 0
        assert isinstance(await client.health(), HealthCheckResponse)


async def test_a_completed_exchange_s_connection_goes_back_to_the_pool(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, _):
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        await peer.send(body(b"x"))
        assert (await delivered(client)).data == b"x"
        await client.send(CANCEL)
        await client.health()
        assert up.pool.statistics().idle == 1


# --- the client goes ---


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", CHUNKED + chunk(b"x"), body(bytes(9000))], ids=len)
@pytest.mark.parametrize("mid_frame", [b"", b"\0", b"\0\0\1\0\0half"])
async def test_a_client_that_goes_takes_its_streams_along_and_no_one_else_s(nursery, log, sent, mid_frame):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (other, _), session(up.services) as (client, _):
        await greet(other)
        await other.send(asked_for(1))
        neighbour = await up.asked()

        await greet(client, window_bytes=1000)
        await client.send(asked_for(1))
        peer = await up.asked()
        await peer.send(sent)
        await client.send(mid_frame)
        await settled()
        await client.close()
        await peer.gone()
        await settled()
        assert up.pool.statistics().active == 1

        await neighbour.send(body(b"fine"))
        assert (await delivered(other)).data == b"fine"
        assert up.is_idle()
    lines = log.getvalue().splitlines()
    assert sum("error_class=cancelled" in line for line in lines) == 1
    assert sum("error_class" not in line for line in lines) == 1


async def test_a_client_that_goes_in_the_middle_of_a_long_upload_leaves_a_line_in_the_log(nursery, log):
    up = MemoryUpstream(nursery, pair=trio.testing.lockstep_stream_pair)
    async with session(up.services) as (client, _):
        await greet(client)
        await client.send(asked_for(1, parameters={"method": "PUT", "body": "x" * 200_000}))
        peer = await up.peer()
        await settled()
        await client.close()
        await peer.gone()
    assert "error_class=cancelled" in log.getvalue()


async def test_a_lost_framing_ends_the_connection_and_stops_its_streams(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, _):
        await greet(client)
        await client.send(asked_for(1))
        peer = await up.asked()
        await client.send(b"\xff\xff\xff\xff")
        message = await client.receive()
        assert isinstance(message, ExecuteResponse)
        assert "the connection is closed" in message.error_message
        await peer.gone()
        await client.end()
