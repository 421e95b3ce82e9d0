"""Clients that have ended their sending, and connections that are drained: they get what is theirs to the last byte."""

import contextlib
import socket

import pytest
import trio
from session_under_test import HEALTH, Gate, captured_log, connectors
from stream_client import OK, MemoryUpstream, end, greet, head, piece, stream_request
from wire_client import WireClient, execute_request

from connector_sdk.wire import BodyChunk, CreditUpdate, ErrorClass, ExecuteResponse, Hello, ResponseEnd
from vastar_runtime.connectors import Services
from vastar_runtime.http.pool import Pool
from vastar_runtime.policies.pipeline import Pipeline
from vastar_runtime.server.session import Session


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log
    assert "level=error" not in log.getvalue()


@pytest.fixture
def gate():
    gate = Gate()
    with connectors(gate):
        yield gate


@contextlib.asynccontextmanager
async def half_closed(gate, *first):
    """A session on a real Unix socket whose client has asked for something and then ended its sending."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    served = Session(theirs, Services(Pool(), None), Pipeline(), health=lambda: HEALTH)
    client = WireClient(ours)
    await client.send(*first, execute_request(1, b"x", connector_name="gate"))
    await ours.send_eof()
    async with ours, trio.open_nursery() as nursery:
        nursery.start_soon(served.run)
        while not gate.running:
            await trio.lowlevel.checkpoint()
        yield client


async def test_it_gets_what_it_asked_for_and_then_the_end(gate):
    """As with `nc -N`, or a socket.end(frame) of Node."""
    async with half_closed(gate) as client:
        gate.open("x")
        assert (await client.answer()).payload == "x"
        assert await client.receive() is None


async def test_it_is_told_of_no_drain_since_there_is_none(gate):
    async with half_closed(gate, Hello(protocol_version=1)) as client:
        gate.open("x")
        kinds = []
        while (message := await client.receive()) is not None:
            kinds.append(type(message))
    assert kinds == [Hello, CreditUpdate, ExecuteResponse]


async def test_a_stream_longer_than_its_credit_ends_since_no_more_can_come(nursery, log):
    upstream = MemoryUpstream(nursery)
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    served = Session(theirs, upstream.services, Pipeline(), health=lambda: HEALTH)
    client = WireClient(ours)
    nursery.start_soon(served.run)
    async with ours:
        await greet(client, 3)
        await client.send(stream_request(1))
        peer = await upstream.asked()
        await peer.send(OK + b"Content-Length: 5\r\n\r\nhello")
        await ours.send_eof()
        await head(client)
        assert await piece(client) == b"hel"
        ending = await end(client)
        await client.end()
    assert ending.error_class is ErrorClass.INVALID_REQUEST
    assert ending.error_message == "the client ended its sending, and the stream is longer than its credit"
    assert upstream.is_idle()


async def test_when_it_goes_altogether_its_request_is_cancelled(gate):
    async with half_closed(gate) as client:
        await client.close()
    assert gate.cancelled == ["x"]


async def test_a_drained_tcp_connection_stays_until_the_client_has_all_of_its_answer(nursery):
    """A frame of the client that meets a closed socket is answered with a reset, which discards what is on its way."""
    upstream = MemoryUpstream(nursery)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client_socket = socket.socket()
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client_socket.connect(listener.getsockname())
        theirs = listener.accept()[0]
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
    ours, stream = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (client_socket, theirs))
    served = Session(stream, upstream.services, Pipeline(), health=lambda: HEALTH)
    client = WireClient(ours)
    async with ours, trio.open_nursery() as session_tasks:
        session_tasks.start_soon(served.run)
        await greet(client, 1024 * 1024)
        await client.send(stream_request(1))
        peer = await upstream.asked()
        await peer.send(OK + b"Content-Length: 10000\r\n\r\n" + bytes(10_000))
        while served.active_requests:
            await trio.lowlevel.checkpoint()
        served.drain()
        await served._outbox.drained()
        for _ in range(100):  # far more turns than a close takes
            await trio.lowlevel.checkpoint()
        await client.send(CreditUpdate(request_id=1, credit_delta=1))
        messages = []
        while (message := await client.receive()) is not None:
            messages.append(message)
    assert sum(len(message.data) for message in messages if isinstance(message, BodyChunk)) == 10_000
    assert [m.error_class for m in messages if isinstance(m, ResponseEnd)] == [ErrorClass.SUCCESS]
