"""The async client against a scripted daemon, under asyncio and under trio."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, response_frame, say_hello, socket_path

import connector_sdk.async_connection
from connector_sdk import GET, POST, AsyncRuntimeClient, ConnectorException, ErrorClass, RuntimeConfig, ServerSentEvent
from connector_sdk.wire import CreditUpdate, ExecuteRequest
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES

__all__ = ["socket_path"]

REQUEST = GET("http://u/")
PATIENCE_S = 20

Story = Callable[[AsyncRuntimeClient], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest, socket_path: str) -> Run:
    """Tell a story with an open client, in a loop of its own."""

    def run(story: Story, config: RuntimeConfig | None = None) -> None:
        async def main() -> None:
            with anyio.fail_after(PATIENCE_S):
                async with AsyncRuntimeClient(config or config_for(socket_path)) as client:
                    await story(client)

        anyio.run(main, backend=request.param)

    return run


def test_a_call(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        response = await client.execute_http(POST("http://u/").with_body(b"\xff"))
        assert (response.status_code, response.body) == (200, b"hello")

    with ScriptedDaemon(say_hello, socket_path) as daemon:
        run(story)
    assert daemon.payloads[0]["body"] == b"\xff"


def test_over_tcp(run: Run) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        assert (await client.execute_http(REQUEST)).body == b"hello"

    with ScriptedDaemon(say_hello, None) as daemon:
        run(story, RuntimeConfig(use_tcp=True, tcp_host="127.0.0.1", tcp_port=daemon.port))


def test_many_calls_share_one_connection(run: Run, socket_path: str) -> None:
    """The daemon answers when it has all of them, the last one first."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        if len(peer.daemon.requests) == 20:
            for waiting in reversed(peer.daemon.requests):
                peer.answer(waiting, body=str(waiting.trace_id))

    async def story(client: AsyncRuntimeClient) -> None:
        async def call(name: str) -> None:
            bodies[name] = (await client.execute_http(REQUEST.with_trace_id(name))).body

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, str(number))

    bodies: dict[str, bytes] = {}
    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
        assert len(daemon.peers) == 1
    assert bodies == {str(number): str(number).encode() for number in range(20)}


def test_a_stream_as_it_comes(run: Run, socket_path: str) -> None:
    is_read = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 201, ("Content-Type", "text/event-stream"))
        peer.chunk(request, b"data: 1\n\n")
        assert is_read.wait(PATIENCE_S)
        peer.chunk(request, b"data: 2\n\n")
        peer.end(request.request_id)

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response:
            assert (response.status_code, response.headers["content-type"]) == (201, "text/event-stream")
            events = response.aiter_sse()
            assert await anext(events) == ServerSentEvent("1")
            is_read.set()
            assert [event async for event in events] == [ServerSentEvent("2")]

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
    assert daemon.cancelled == []


@pytest.mark.parametrize("is_legacy", [False, True])
def test_every_way_to_read(run: Run, socket_path: str, is_legacy: bool) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body="aé\r\nb")

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response:
            assert [piece async for piece in response.aiter_bytes()] == ["aé\r\nb".encode()]
        async with client.stream_http(REQUEST) as response:
            assert [text async for text in response.aiter_text()] == ["aé\r\nb"]
        async with client.stream_http(REQUEST) as response:
            assert [line async for line in response.aiter_lines()] == ["aé", "b"]
        async with client.stream_http(REQUEST) as response:
            assert await response.aread() == "aé\r\nb".encode()

    with ScriptedDaemon(script, socket_path, is_legacy=is_legacy) as daemon:
        run(story)
        assert len(daemon.peers) == 1


def test_a_body_of_many_windows_beside_a_reader_that_sleeps(run: Run, socket_path: str) -> None:
    """The one that nobody reads gets no credit back; the other on the same connection is not held up."""
    size = 3 * DEFAULT_WINDOW_BYTES

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        window, sent = peer.wire.window(request.request_id), 0
        if request.trace_id == "asleep":
            peer.chunk(request, bytes(window.take(size)))
            return
        while sent < size:
            data = bytes(window.take(min(size - sent, 60_000)))
            sent += len(data)
            if data:
                peer.chunk(request, data)
            else:
                credit = peer.next_event()
                assert isinstance(credit, CreditUpdate)
                assert credit.request_id == request.request_id
        peer.end(request.request_id)

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST.with_trace_id("asleep")), client.stream_http(REQUEST) as awake:
            assert len(await awake.aread()) == size

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
        assert len(daemon.peers) == 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_cancelled_task_cancels_its_exchange_and_no_other(run: Run, socket_path: str, is_stream: bool) -> None:
    is_there = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        if request.trace_id != "endless":
            peer.answer(request, body="hello")
            return
        if is_stream:
            peer.head(request)
            peer.chunk(request, b"first")
        is_there.set()

    async def endless(client: AsyncRuntimeClient) -> None:
        request = REQUEST.with_trace_id("endless")
        if is_stream:
            async with client.stream_http(request) as response:
                await response.aread()
        else:
            await client.execute_http(request)

    async def story(client: AsyncRuntimeClient) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endless, client)
            await anyio.to_thread.run_sync(partial(is_there.wait, PATIENCE_S))
            tasks.cancel_scope.cancel()
        assert (await client.execute_http(REQUEST)).body == b"hello"

    with ScriptedDaemon(script, socket_path) as daemon:
        if not is_stream:
            daemon.end_cancelled = lambda peer, request_id: peer.send(
                error_frame(request_id, ErrorClass.CANCELLED, "cancelled")
            )
        run(story)
        assert daemon.cancelled == [daemon.requests[0].request_id]
        assert len(daemon.peers) == 1


def test_leaving_early_cancels_and_the_rest_cannot_be_taken_for_the_end(run: Run, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        peer.chunk(request, b"first\nsecond")

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response:
            async for line in response.aiter_lines():
                assert line == "first"
                break
        with pytest.raises(ConnectorException, match="closed before its end"):
            await response.aread()
        daemon.script = say_hello
        await client.execute_http(REQUEST)

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
        assert daemon.cancelled == [daemon.requests[0].request_id]


def test_failures_before_and_after_the_head(run: Run, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        if request.trace_id:
            peer.head(request)
            peer.chunk(request, b"first")
        peer.end(request.request_id, ErrorClass.TRANSIENT, "the upstream stopped")

    async def story(client: AsyncRuntimeClient) -> None:
        with pytest.raises(ConnectorException, match="the upstream stopped"):
            async with client.stream_http(REQUEST):
                pass
        async with client.stream_http(REQUEST.with_trace_id("later")) as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"first"
            for read in (lambda: anext(pieces), response.aread):
                with pytest.raises(ConnectorException, match="the upstream stopped"):
                    await read()

    with ScriptedDaemon(script, socket_path):
        run(story)


def test_a_lost_connection_fails_all_that_is_on_it_and_the_next_call_opens_another(run: Run, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        if len(peer.daemon.requests) == 2:
            peer.hang_up()

    async def story(client: AsyncRuntimeClient) -> None:
        async def call() -> None:
            with pytest.raises(ConnectorException, match="lost the connection to the daemon at socket") as e:
                await client.execute_http(REQUEST)
            assert e.value.is_retryable()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)
        daemon.script = say_hello
        assert (await client.execute_http(REQUEST)).body == b"hello"

    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)
        assert len(daemon.peers) == 2


def test_what_answers_breaks_the_protocol(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        with pytest.raises(ConnectorException, match="broke the protocol: frame length 0") as e:
            await client.execute_http(REQUEST)
        assert e.value.error_class is ErrorClass.PERMANENT

    with ScriptedDaemon(lambda peer, request: peer.send(bytes(4)), socket_path):
        run(story)


def test_a_daemon_that_never_answers(run: Run, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the one that it does not answer pays for it."""
    monkeypatch.setattr(connector_sdk.async_connection, "ANSWER_GRACE_MS", 0)

    async def story(client: AsyncRuntimeClient) -> None:
        await client.execute_http(REQUEST)
        daemon.script = lambda peer, request: None
        with pytest.raises(ConnectorException, match="did not answer") as e:
            await client.execute_http(REQUEST.with_timeout(20))
        assert e.value.error_class is ErrorClass.TIMEOUT

    with ScriptedDaemon(say_hello, socket_path) as daemon:
        daemon.end_cancelled = lambda peer, request_id: None
        run(story)


def test_the_existing_runtime_serves_two_tasks_at_once(run: Run, socket_path: str) -> None:
    """Each on a connection of its own, since it runs one request of a connection after another."""
    both_are_here = threading.Barrier(2)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        both_are_here.wait(PATIENCE_S)
        peer.send(response_frame(request, body="hello"))

    async def story(client: AsyncRuntimeClient) -> None:
        async def call() -> None:
            assert (await client.execute_http(REQUEST)).body == b"hello"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)

    with ScriptedDaemon(script, socket_path, is_legacy=True):
        run(story)


def test_no_daemon(run: Run) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        with pytest.raises(ConnectorException, match="vastar-runtime start") as e:
            await client.execute_http(REQUEST)
        assert e.value.is_retryable()

    run(story)


def test_an_exception_in_the_block_stays_what_it_is(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        await client.execute_http(REQUEST)
        raise ZeroDivisionError

    with ScriptedDaemon(say_hello, socket_path), pytest.raises(ZeroDivisionError):
        run(story)


def test_a_client_that_is_closed_says_so(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        await client.execute_http(REQUEST)
        await client.aclose()
        with pytest.raises(ConnectorException, match="the client is closed"):
            await client.execute_http(REQUEST)

    with ScriptedDaemon(say_hello, socket_path):
        run(story)
