"""The async client and the event loops it is used in: none is owed an ``async with``, none finds another's sockets."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, say_hello, socket_path

import connector_sdk.async_connection
from connector_sdk import GET, AsyncRuntimeClient, ConnectorException, ErrorClass
from connector_sdk.wire import CreditUpdate, ExecuteRequest, Hello

__all__ = ["socket_path"]

REQUEST = GET("http://u/")
PATIENCE_S = 20


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def run(story: Any, *arguments: object) -> Any:
        async def main() -> Any:
            with anyio.fail_after(PATIENCE_S):
                return await story(*arguments)

        return anyio.run(main, backend=request.param)

    return run


async def ask(client: AsyncRuntimeClient) -> bytes:
    return (await client.execute_http(REQUEST)).body


def test_without_async_with_and_never_closed(run: Any, socket_path: str) -> None:
    """At the end of the loop nothing is left, and nothing complains: warnings are errors here."""
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        client = AsyncRuntimeClient(config_for(socket_path))
        assert [run(ask, client) for _ in range(3)] == [b"hello"] * 3
        assert len(daemon.peers) == 3
        assert len(client._loops) == 1  # the loops that have ended are forgotten


def test_a_stream_left_open_when_the_loop_ends(run: Any, socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        peer.chunk(request, b"first")

    async def story() -> None:
        response = await AsyncRuntimeClient(config_for(socket_path)).open_stream(REQUEST)
        assert await anext(response.aiter_bytes()) == b"first"
        responses.append(response)

    responses: list[Any] = []
    with ScriptedDaemon(script, socket_path):
        run(story)
        responses[0].close()


def test_two_loops_at_once_each_on_a_connection_of_its_own(socket_path: str) -> None:
    def use(backend: str) -> None:
        async def story() -> None:
            for _ in range(5):
                assert await ask(client) == b"hello"
                await anyio.to_thread.run_sync(both.wait, PATIENCE_S)

        anyio.run(story, backend=backend)

    both = threading.Barrier(2)
    client = AsyncRuntimeClient(config_for(socket_path))
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        threads = [threading.Thread(target=use, args=[backend]) for backend in ("asyncio", "trio")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(daemon.peers) == 2
        assert len(daemon.requests) == 10


FORKING_PROGRAM = """
import asyncio, os, sys
from connector_sdk import GET, AsyncRuntimeClient, RuntimeConfig

client = AsyncRuntimeClient(RuntimeConfig(socket_path=sys.argv[1], use_tcp=False))


async def ask(name):
    await client.execute_http(GET("http://u/").with_trace_id(name))


asyncio.run(ask("parent"))
child = os.fork()
if child == 0:
    asyncio.run(ask("child"))
    os._exit(0)
_, status = os.waitpid(child, 0)
asyncio.run(ask("parent"))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_takes_a_connection_of_its_own(socket_path: str) -> None:
    seen: list[tuple[str | None, int]] = []

    def script(peer: Peer, request: ExecuteRequest) -> None:
        seen.append((request.trace_id, peer.number))
        peer.answer(request)

    with ScriptedDaemon(script, socket_path):
        program = [sys.executable, "-W", "error", "-c", FORKING_PROGRAM, socket_path]
        result = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert seen == [("parent", 0), ("child", 1), ("parent", 2)]


def test_a_client_that_is_dropped_takes_its_connection_along(run: Any, socket_path: str) -> None:
    async def story() -> None:
        client = AsyncRuntimeClient(config_for(socket_path))
        await ask(client)
        del client
        gc.collect()
        assert await anyio.to_thread.run_sync(is_left.wait, PATIENCE_S)

    is_left = threading.Event()
    with watched(is_left, socket_path):
        run(story)


def test_once_closed_nothing_is_left(run: Any, socket_path: str) -> None:
    async def story() -> None:
        client = AsyncRuntimeClient(config_for(socket_path))
        await ask(client)
        await client.aclose()
        assert is_left.wait(PATIENCE_S)  # nothing else can run in this loop meanwhile

    is_left = threading.Event()
    with watched(is_left, socket_path):
        run(story)


def watched(is_left: threading.Event, socket_path: str) -> ScriptedDaemon:
    """A daemon that tells when its client has gone."""

    class Daemon(ScriptedDaemon):
        def _serve(self, peer: Peer) -> None:
            super()._serve(peer)
            is_left.set()

    return Daemon(say_hello, socket_path)


def test_closing_fails_what_is_in_flight_and_waits_for_its_end(run: Any, socket_path: str) -> None:
    async def story() -> None:
        async def wait() -> None:
            with pytest.raises(ConnectorException, match="the client was closed"):
                await ask(client)

        client = AsyncRuntimeClient(config_for(socket_path))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
            await client.aclose()
            await client.aclose()

    is_asked = threading.Event()
    with ScriptedDaemon(lambda peer, request: is_asked.set(), socket_path):
        run(story)


def test_a_cancelled_task_leaves_the_connection_that_it_opened(run: Any, socket_path: str) -> None:
    """The reader of a connection is nobody's child."""

    async def story() -> None:
        client = AsyncRuntimeClient(config_for(socket_path))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, client)
            assert await anyio.to_thread.run_sync(is_asked.wait, PATIENCE_S)
            tasks.cancel_scope.cancel()
        daemon.script = say_hello
        assert await ask(client) == b"hello"
        await client.aclose()

    is_asked = threading.Event()
    with ScriptedDaemon(lambda peer, request: is_asked.set(), socket_path) as daemon:
        daemon.end_cancelled = lambda peer, request_id: peer.send(
            error_frame(request_id, ErrorClass.CANCELLED, "cancelled")
        )
        run(story)
        assert len(daemon.peers) == 1


@pytest.mark.parametrize("says_its_limit", [False, True])
def test_a_connection_that_is_full_gets_another_beside_it(
    run: Any, socket_path: str, monkeypatch: pytest.MonkeyPatch, says_its_limit: bool
) -> None:
    """Afterwards one of them is kept."""

    def greet_with_limit(peer: Peer) -> None:
        hello = peer.wire.send(Hello(protocol_version=1, agent="scripted"))
        peer.send(hello + peer.wire.send(CreditUpdate(total_credits=3)))

    def script(peer: Peer, request: ExecuteRequest) -> None:
        if len(daemon.requests) == 8:
            for waiting, its_peer in asked:
                its_peer.answer(waiting, body="hello")
            peer.answer(request, body="hello")
        else:
            asked.append((request, peer))

    async def story() -> None:
        async with AsyncRuntimeClient(config_for(socket_path)) as client:
            assert await ask(client) == b"hello"  # what the daemon says of itself has arrived before that
            daemon.script = script
            async with anyio.create_task_group() as tasks:
                for _ in range(7):
                    tasks.start_soon(ask, client)
            daemon.script = say_hello
            before = len(daemon.peers)
            for _ in range(4):
                assert await ask(client) == b"hello"
            assert len(daemon.peers) == before
            (loop,) = client._loops.values()
            assert sum(connection.is_open for connection in loop.connections) == 1

    asked: list[tuple[ExecuteRequest, Peer]] = []
    if not says_its_limit:
        monkeypatch.setattr(connector_sdk.async_connection, "MAX_REQUESTS_IN_FLIGHT", 3)
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        if says_its_limit:
            daemon.greet = greet_with_limit
        run(story)
        assert len(daemon.peers) == 3
