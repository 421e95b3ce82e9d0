"""What an exchange costs the async client: one write for a request, no task and no cancel scope for a message."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Any

import anyio
import pytest
from scripted_daemon import Peer, ScriptedDaemon, socket_path, stay_silent
from test_sdk_async_client import PATIENCE_S, REQUEST, Run, run

from connector_sdk import POST, AsyncRuntimeClient, ConnectorException, ErrorClass
from connector_sdk.async_streaming import LivePieces
from connector_sdk.dial import open_socket
from connector_sdk.http_payload import WaitLimits
from connector_sdk.wire import ExecuteRequest, ResponseMode

__all__ = ["run", "socket_path"]

CHUNKS = 20
LARGE = bytes(range(256)) * 10_000  # no socket's buffer takes it at once


class _CountingSocket(socket.socket):
    """A socket that notes what it sends."""

    sizes: list[int]

    def send(self, data: Any, flags: int = 0) -> int:
        sent = super().send(data, flags)
        self.sizes.append(sent)
        return sent


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the client has sent, write by write."""
    sizes: list[int] = []

    def open_counting(*arguments: Any) -> socket.socket:
        sock = _CountingSocket(fileno=open_socket(*arguments).detach())
        sock.sizes = sizes
        return sock

    monkeypatch.setattr("connector_sdk.async_connection.open_socket", open_counting)
    return sizes


def _answers(peer: Peer, request: ExecuteRequest) -> None:
    if request.response_mode is ResponseMode.BUFFERED:
        peer.answer(request, body="hello")
        return
    peer.head(request)
    peer.chunk(request, b"hello")
    peer.end(request.request_id)


def test_a_request_is_one_write_buffered_or_for_a_stream(run: Run, socket_path: str, sizes: list[int]) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        request = POST("http://u/").with_body(b"x" * 50_000)
        await client.execute_http(request)
        sizes.clear()
        assert (await client.execute_http(request)).body == b"hello"
        assert len(sizes) == 1
        async with client.stream_http(request) as response:
            assert await response.aread() == b"hello"
        assert len(sizes) == 2

    with ScriptedDaemon(_answers, socket_path):
        run(story)


def test_requests_that_the_daemon_does_not_take_at_once_arrive_whole(
    run: Run, socket_path: str, sizes: list[int]
) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        await client.execute_http(REQUEST)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(client.execute_http, POST("http://u/").with_body(LARGE))

    with ScriptedDaemon(_answers, socket_path) as daemon:
        run(story)
    assert [payload["body"] for payload in daemon.payloads[1:]] == [LARGE] * 4
    assert len(sizes) > 6


def test_a_chunk_makes_no_task_and_no_cancel_scope(run: Run, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Semaphore(0)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        for _ in range(CHUNKS):
            assert may_go_on.acquire(timeout=PATIENCE_S)
            peer.chunk(request, b"x")
        peer.end(request.request_id)

    async def story(client: AsyncRuntimeClient) -> None:
        scopes: list[object] = []
        make = anyio.CancelScope.__new__

        def counting(cls: Any, *arguments: Any, **options: Any) -> Any:
            scopes.append(cls)
            return make(cls, *arguments, **options)

        async with client.stream_http(REQUEST) as response:
            await anyio.wait_all_tasks_blocked()
            tasks = set(map(id, anyio.get_running_tasks()))
            pieces = response.aiter_bytes()
            with monkeypatch.context() as patched:
                patched.setattr(anyio.CancelScope, "__new__", counting)
                for _ in range(CHUNKS):
                    may_go_on.release()
                    assert await anext(pieces) == b"x"
                    assert len(anyio.get_running_tasks()) == len(tasks)
            assert scopes == []
            assert await response.aread() == b""

    with ScriptedDaemon(script, socket_path):
        run(story)


def test_every_exchange_has_its_own_time_limit_though_one_alarm_serves_all(run: Run, socket_path: str) -> None:
    """A short limit that begins after a long one is not kept waiting, nor is the next one after that has passed."""

    async def story(client: AsyncRuntimeClient) -> None:
        async def wait(head_ms: int | None) -> None:
            with pytest.raises(ConnectorException, match=f"nothing came for {head_ms} ms") as caught:
                await client.open_stream(REQUEST, WaitLimits(head_ms=head_ms))
            assert caught.value.error_class is ErrorClass.TIMEOUT

        async def wait_long() -> None:
            await client.open_stream(REQUEST, WaitLimits(head_ms=1000 * PATIENCE_S))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_long)
            await anyio.wait_all_tasks_blocked()
            await wait(30)
            async with anyio.create_task_group() as more:
                for head_ms in (60, 20, 40):
                    more.start_soon(wait, head_ms)
            tasks.cancel_scope.cancel()

    with ScriptedDaemon(stay_silent, socket_path):
        run(story)


def test_a_forked_child_writes_nothing_to_its_parents_connection(run: Run, socket_path: str) -> None:
    """It closes a response that it has inherited; the parent reads on."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        peer.chunk(request, b"hello")
        assert may_end.wait(PATIENCE_S)
        peer.end(request.request_id)

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response:
            assert await anext(response.aiter_bytes()) == b"hello"
            child = os.fork()
            if child == 0:
                response.close()
                os._exit(0)
            os.waitpid(child, 0)
            assert select.select([daemon.peers[0].socket], [], [], 0)[0] == []
            may_end.set()
            assert await response.aread() == b""

    may_end = threading.Event()
    with ScriptedDaemon(script, socket_path) as daemon:
        run(story)


def test_a_connection_that_is_lost_in_the_middle_of_a_write_fails_the_request(run: Run, socket_path: str) -> None:
    async def story(client: AsyncRuntimeClient) -> None:
        await client.execute_http(REQUEST)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hang_up, daemon)
            with pytest.raises(ConnectorException) as caught:
                await client.execute_http(POST("http://u/").with_body(LARGE))
        assert caught.value.error_class is ErrorClass.TRANSIENT

    with ScriptedDaemon(_answers, socket_path) as daemon:
        run(story)


async def _hang_up(daemon: ScriptedDaemon) -> None:
    daemon.peers[0].hang_up()


def test_a_limit_that_passes_while_nobody_waits_is_no_limit_for_the_next_wait(run: Run, socket_path: str) -> None:
    """The application takes its time over a piece, and the alarm goes off meanwhile."""
    may_go_on = threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        assert may_go_on.wait(PATIENCE_S)
        peer.chunk(request, b"late")
        peer.end(request.request_id)

    async def story(client: AsyncRuntimeClient) -> None:
        async with client.stream_http(REQUEST) as response:
            pieces = response._pieces
            assert isinstance(pieces, LivePieces)
            pieces._exchange.gives_up_at = 0
            pieces._connection._ring()
            assert pieces._exchange.is_late
            may_go_on.set()
            assert await response.aread() == b"late"

    with ScriptedDaemon(script, socket_path):
        run(story)
