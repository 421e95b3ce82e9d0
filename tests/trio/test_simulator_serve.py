"""The simulator as a server: its start, its stop, and clients and connections that fail."""

import logging
import socket
import struct
from functools import partial

import pytest
import trio
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from simulator_client import ask, question, request_bytes, simulator
from trio.testing import wait_all_tasks_blocked

from vastar_runtime.errors import StartupError
from vastar_runtime.simulator.http1_server import Http1Server
from vastar_runtime.simulator.serve import serve
from vastar_runtime.simulator.settings import SimulatorSettings


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(
    "sent",
    [
        request_bytes(question(stream=True)),
        request_bytes(question())[:-1],
        b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["mid-stream", "mid-request", "mid-unknown"],
)
async def test_a_client_that_vanishes_leaves_nothing_behind_and_nothing_in_the_log(sent, reset, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "vastar_runtime.simulator.request_log")
    async with simulator(tokens_per_second=0.02) as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        client = await trio.open_tcp_stream("127.0.0.1", ask.port)
        await client.send_all(sent)
        if b'"stream"' in sent:
            await client.receive_some()
        else:
            await until(lambda: trio.lowlevel.current_statistics().tasks_living > tasks + 1)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
        assert (await ask(path="/health", method="GET")).status == 200
    assert caplog.records == []


async def test_a_client_that_does_not_wait_for_its_answer_is_not_waited_for_either():
    async with simulator(first_token_ms=600_000) as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        client = await trio.open_tcp_stream("127.0.0.1", ask.port)
        await client.send_all(request_bytes(question()))
        await until(lambda: trio.lowlevel.current_statistics().tasks_living > tasks + 3)
        await client.aclose()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)


@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["byte behind", "offer"])
async def test_a_client_that_leaves_while_nothing_is_read_from_it_leaves_nothing_behind(offer, caplog):
    request = request_bytes(question(stream=True)).replace(b"Host:", offer + b"Host:", 1)
    async with simulator(tokens_per_second=1000) as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(request if offer else request + b"\r\n")
            await client.receive_some()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
    assert caplog.records == []


async def test_a_connection_that_closes_while_something_is_sent_is_no_failure():
    """The reader closes it for an error of the client's, in the middle of an answer."""

    class Closed:
        async def handle(self, event: object) -> None:
            pass

    for _ in range(20):  # either begins
        ends = [trio.SocketStream(end) for end in trio.socket.socketpair()]
        server = Http1Server(None, Config(), WorkerContext(None), ConnectionState({}), ends[0])
        server.protocol = Closed()
        async with ends[0], ends[1], trio.open_nursery() as nursery:
            nursery.start_soon(server._close)
            nursery.start_soon(server.protocol_send, RawData(b"answer"))


async def until(condition):
    """Waits for what a real socket brings about in its own time."""
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


@pytest.mark.parametrize("fault", [b"none", b"truncate-event=2", b"slow=1000kB/s"])
@pytest.mark.parametrize("head", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"], ids=["1.0", "close"])
@pytest.mark.parametrize("more", [b"", b"\r\nGET / HTTP/1.1\r\n"], ids=["alone", "with more behind it"])
async def test_a_stream_ends_where_its_end_is_that_of_the_connection(head, fault, more):
    request = request_bytes(question(stream=True)).replace(b"HTTP/1.1\r\n", head + b"X-Simulate: %b\r\n" % fault, 1)
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(request + more)
        data = await all_of(client)
    assert data.count(b"data: ") == 2 if fault == b"truncate-event=2" else b"[DONE]" in data


async def all_of(client: trio.SocketStream) -> bytes:
    """What comes until the server closes the connection."""
    with trio.fail_after(5):
        return b"".join([bytes(data) async for data in client])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_idle_connection_lasts_as_long_as_its_client_wants_it_and_no_longer_than_the_server(
    stream, monkeypatch
):
    async with simulator() as ask:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(request_bytes(question(stream=stream)) * 2)
            await until_answered(client, 2)
            await wait_all_tasks_blocked()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
    monkeypatch.setattr("vastar_runtime.simulator.serve.KEEP_ALIVE_S", 0.05)
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(request_bytes(question(stream=stream)))
        assert b"HTTP/1.1 200" in await all_of(client)


async def until_answered(client: trio.SocketStream, number: int) -> None:
    data = b""
    with trio.fail_after(5):
        while data.count(b"\r\n\r\n") < number or not data.endswith((b"}", b"\r\n0\r\n\r\n")):
            data += await client.receive_some()


async def test_a_client_that_closes_its_side_behind_a_request_is_answered():
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(request_bytes(question()) * 2)
        await client.send_eof()
        assert (await all_of(client)).count(b"HTTP/1.1 200") == 2


async def test_http_2_is_refused_and_an_offer_of_it_ignored(caplog):
    async with simulator() as ask:
        async with await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
            await client.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            refused = await all_of(client)
        offer = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
        answer = await ask(b"", path="/v1/models", method="GET", **offer)
    assert refused.startswith(b"HTTP/1.1 505 ")
    assert b"HTTP/2.0 is not spoken here; HTTP/1.1 is." in refused
    assert answer.status == 200
    assert caplog.records == []


async def test_an_offer_of_websocket_is_ignored_too(caplog):
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as client:
        await client.send_all(request + offer + b"\r\n" + request + b"\r\n")
        await client.send_eof()
        answers = await all_of(client)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert caplog.records == []


async def test_a_fault_of_the_simulator_is_a_500_in_the_envelope_and_in_the_log(monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault of our own")

    monkeypatch.setattr("vastar_runtime.simulator.voice.Voice.reply", fail)
    async with simulator() as ask:
        answer = await ask(question())
        # The log is written after the answer.
        await until(lambda: "a fault of our own" in caplog.text)
    assert (answer.status, answer.error["type"]) == (500, "server_error")


async def test_a_connection_that_fails_ends_no_other(monkeypatch, caplog):
    async with simulator() as ask, await trio.open_tcp_stream("127.0.0.1", ask.port) as first:
        await first.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with monkeypatch.context() as patch:
            patch.setattr("hypercorn.protocol.h11.H11Protocol.initiate", lambda self: 1 / 0)
            async with await trio.open_tcp_stream("127.0.0.1", ask.port) as second:
                await until(lambda: caplog.records)
                assert await second.receive_some() == b""
        await first.send_all(b"\r\n")
        assert b"200" in await first.receive_some()
    assert "a connection of the simulator failed" in caplog.text


async def test_a_stop_ends_open_streams_at_once():
    async with simulator(tokens_per_second=0.02) as ask:
        client = await trio.open_tcp_stream("127.0.0.1", ask.port)
        await client.send_all(request_bytes(question(stream=True)))
        assert await client.receive_some()
    async with client:
        rest = b""
        with trio.fail_after(10):
            while data := await client.receive_some():
                rest += data
    assert b"[DONE]" not in rest


async def test_a_client_that_does_not_read_cannot_hold_up_a_stop():
    """It sends questions until the answers have filled every buffer and the server no longer reads."""
    with trio.fail_after(30):
        async with simulator() as ask:
            client = await trio.open_tcp_stream("127.0.0.1", ask.port)
            while await was_taken(client, request_bytes(question("Hello" * 10_000, stream=True))):
                pass
        await client.aclose()


async def was_taken(client: trio.SocketStream, data: bytes) -> bool:
    with trio.move_on_after(0.5) as patience:
        await client.send_all(data)
    return not patience.cancelled_caught


async def test_a_taken_port_is_named():
    async with simulator() as ask:
        with pytest.raises(StartupError) as caught:
            await serve("127.0.0.1", ask.port, SimulatorSettings())
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{ask.port}: address already in use; choose another with --port"
    )


async def test_a_foreign_address_and_a_bad_name_are_named():
    with pytest.raises(StartupError, match=r"^cannot listen on 192\.0\.2\.1:0: .+; choose another with --host$"):
        await serve("192.0.2.1", 0, SimulatorSettings())
    with pytest.raises(StartupError, match=r"^cannot listen on 'no such host': .+; choose another with --host$"):
        await serve("no such host", 0, SimulatorSettings())
    with pytest.raises(StartupError, match=r"^cannot listen on 'a\.\.b': .+; choose another with --host$"):
        await serve("a..b", 0, SimulatorSettings())


async def test_the_port_is_free_again_after_a_stop():
    async with simulator() as ask:
        assert (await ask(question())).status == 200
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve, "127.0.0.1", ask.port, SimulatorSettings())
        assert url == f"http://127.0.0.1:{ask.port}"
        nursery.cancel_scope.cancel()


async def test_the_url_of_an_ipv6_address_has_brackets():
    async with trio.open_nursery() as nursery:
        try:
            url = await nursery.start(serve, "::1", 0, SimulatorSettings())
        except StartupError as error:
            pytest.skip(f"no IPv6 here: {error}")
        assert (await trio.to_thread.run_sync(partial(ask, url, question()))).status == 200
        nursery.cancel_scope.cancel()
    assert url.startswith("http://[::1]:")
