"""Hello opens part 2 of the protocol; a client that never says it never sees a frame of part 2. GoAway tells of a
drain."""

import pytest
import trio
from session_under_test import Gate, captured_log, connectors, session
from stream_client import CHUNKED, MemoryUpstream, body, chunk, delivered, end, greet, head, piece, stream_request
from wire_client import execute_request

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
)
from connector_sdk.wire.daemon_connection import MAX_REQUESTS_IN_FLIGHT, MAX_WINDOW_BYTES
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES
from vastar_runtime import __version__

HELLO = Hello(protocol_version=1, agent="test")


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
def gate():
    gate = Gate()
    with connectors(gate):
        yield gate


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (0, DEFAULT_WINDOW_BYTES),
        (1, 1),
        (70_000, 70_000),
        (MAX_WINDOW_BYTES + 1, MAX_WINDOW_BYTES),
        (2**32 - 1, MAX_WINDOW_BYTES),
    ],
)
async def test_a_hello_is_answered_with_the_window_and_how_many_requests_there_may_be(asked, granted):
    async with session() as (client, _):
        await client.send(Hello(protocol_version=1, agent="test", stream_window_bytes=asked))
        assert await client.receive() == Hello(
            protocol_version=1,
            agent=f"vastar-runtime/{__version__}",
            max_frame_bytes=MAX_FRAME_BYTES,
            stream_window_bytes=granted,
        )
        assert await client.receive() == CreditUpdate(request_id=0, total_credits=MAX_REQUESTS_IN_FLIGHT)


async def test_a_stream_request_may_come_in_the_same_write_as_the_hello(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, _):
        await client.send(HELLO, stream_request(1))
        assert isinstance(await client.receive(), Hello)
        assert isinstance(await client.receive(), CreditUpdate)
        await (await up.asked()).send(body(b"x"))
        assert (await delivered(client)).data == b"x"


async def test_a_second_hello_is_refused_and_streams_go_on(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, _):
        await greet(client)
        await client.send(stream_request(1))
        peer = await up.asked()
        await client.send(HELLO)
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
        assert "Hello must be the first message" in answer.message
        await peer.send(body(b"x"))
        assert (await delivered(client)).data == b"x"


@pytest.mark.parametrize("first", [HealthCheck(), CreditUpdate(), execute_request(1, None), Cancel(), b"\0\0\0\1\x63"])
async def test_a_late_hello_is_refused_and_the_client_stays_within_part_1(first):
    async with session() as (client, _):
        await client.send(first, HELLO, stream_request(2), HealthCheck())
        answers = []
        while len(answers) < 3 + (not isinstance(first, CreditUpdate)):
            message = await client.receive()
            assert isinstance(message, ExecuteResponse | HealthCheckResponse), message
            answers.append(message)
        words = [message.error_message for message in answers if isinstance(message, ExecuteResponse)]
        assert any("Hello must be the first message" in (text or "") for text in words)
        assert any("response_mode Stream needs a Hello first" in (text or "") for text in words)
        assert (await client.health()).healthy


async def test_a_legacy_client_sees_nothing_of_part_2_also_when_the_daemon_drains(gate):
    async with session() as (client, served):
        await client.send(
            execute_request(1, b"1", connector_name="gate"),
            stream_request(2),
            Cancel(request_id=1),
            CreditUpdate(request_id=1, credit_delta=-1),
            HELLO,
        )
        await settled()
        served.drain()
        await client.send(execute_request(3, b"3", connector_name="gate"))
        answers = {2: await client.answer()}
        assert answers[2].request_id == 2
        for words in ("CANCEL is not for a client to send here", "Hello must be the first"):
            answer = await client.answer()
            assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
            assert words in answer.message
        refused = await client.answer()
        assert (refused.request_id, refused.error_class) == (3, ErrorClass.TRANSIENT)
        gate.open("1")
        answer = await client.answer()
        assert (answer.request_id, answer.payload) == (1, "1")
        await client.end()


async def test_go_away_tells_of_the_drain_streams_finish_and_new_ones_are_transient(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, served):
        await greet(client)
        await client.send(stream_request(1))
        peer = await up.asked()
        await peer.send(CHUNKED + chunk(b"before"))
        await head(client)
        assert await piece(client) == b"before"
        served.drain()
        served.drain()
        assert await client.receive() == GoAway(reason="the runtime is draining")

        await client.send(stream_request(2), execute_request(3, {"url": "http://h/"}))
        refused = await end(client, 2)
        assert refused.error_class is ErrorClass.TRANSIENT
        assert "draining" in refused.error_message
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (3, ErrorClass.TRANSIENT)

        await peer.send(chunk(b"after") + chunk(b""))
        assert await piece(client) == b"after"
        assert (await end(client)).error_class is ErrorClass.SUCCESS
        await client.end()


async def test_an_idle_client_gets_a_go_away_and_the_end(nursery):
    async with session() as (client, served):
        await greet(client)
        served.drain()
        assert isinstance(await client.receive(), GoAway)
        await client.end()


async def test_a_stream_that_waits_for_credit_is_let_finish_by_a_drain(nursery):
    up = MemoryUpstream(nursery)
    async with session(up.services) as (client, served):
        await greet(client, window_bytes=3)
        await client.send(stream_request(1))
        await (await up.asked()).send(body(b"abcdef"))
        await head(client)
        assert await piece(client) == b"abc"
        served.drain()
        assert isinstance(await client.receive(), GoAway)
        await client.send(CreditUpdate(request_id=1, credit_delta=3))
        assert await piece(client) == b"def"
        assert (await end(client)).error_class is ErrorClass.SUCCESS
        await client.end()


@pytest.mark.parametrize("message", [BodyChunk(request_id=1, data=b"x"), GoAway(), ExecuteResponse(request_id=1)])
async def test_what_only_a_daemon_sends_is_refused_and_the_connection_goes_on(message):
    async with session() as (client, _):
        await greet(client)
        await client.send(message)
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
        assert "is not for a client to send" in answer.message
        assert (await client.health()).healthy
