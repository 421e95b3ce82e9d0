"""What an exchange costs the blocking client: one write for a request, no lock, thread or poll object for a chunk."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

from connector_sdk import GET, POST, RuntimeClient
from connector_sdk.dial import open_socket
from connector_sdk.wire import ExecuteRequest, ResponseMode

__all__ = ["socket_path"]

PATIENCE_S = 20
CHUNKS = 30


class _CountingSocket:
    """A socket, and which of its methods were called."""

    def __init__(self, real: socket.socket, calls: list[str]) -> None:
        self._real = real
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls.append(name)
        return getattr(self._real, name)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the client does with its sockets, in order."""
    calls: list[str] = []
    monkeypatch.setattr(
        "connector_sdk.connection.open_socket", lambda *arguments: _CountingSocket(open_socket(*arguments), calls)
    )
    return calls


def _answers(peer: Peer, request: ExecuteRequest) -> None:
    if request.response_mode is ResponseMode.BUFFERED:
        peer.answer(request, body="hello")
        return
    peer.head(request)
    peer.chunk(request, b"hello")
    peer.end(request.request_id)


def test_a_buffered_request_is_one_write_and_its_answer_one_read(socket_path: str, calls: list[str]) -> None:
    with ScriptedDaemon(_answers, socket_path), RuntimeClient(config_for(socket_path)) as client:
        for request in (GET("http://u/"), POST("http://u/").with_body(b"x" * 50_000)):
            calls.clear()
            assert client.execute_http(request).body == b"hello"
            assert calls == ["send", "recv"]


def test_a_request_for_a_stream_is_one_write(socket_path: str, calls: list[str]) -> None:
    with ScriptedDaemon(_answers, socket_path), RuntimeClient(config_for(socket_path)) as client:
        calls.clear()
        with client.stream_http(POST("http://u/").with_body(b"x" * 50_000)) as response:
            assert response.read() == b"hello"
        assert calls[0] == "send"
        assert set(calls[1:]) == {"recv"}


def test_a_request_that_the_daemon_does_not_take_at_once_arrives_whole(socket_path: str, calls: list[str]) -> None:
    bodies: list[bytes] = []

    def script(peer: Peer, request: ExecuteRequest) -> None:
        bodies.append(request.payload or b"")
        peer.answer(request, body="hello")

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        calls.clear()
        assert client.execute_http(POST("http://u/").with_body(bytes(range(256)) * 20_000)).body == b"hello"
    assert bytes(range(256)) * 20_000 in bodies[0]
    assert calls.count("send") > 1  # it does not fit the socket's buffer


class _Counted:
    """A lock's stand-in that counts who takes it."""

    def __init__(self, taken: list[object], make: Callable[[], Any]) -> None:
        self._taken = taken
        self._lock = make()

    def __enter__(self) -> None:
        self._taken.append(self)
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def acquire(self, *arguments: Any) -> bool:
        self._taken.append(self)
        return bool(self._lock.acquire(*arguments))

    def release(self) -> None:
        self._lock.release()


def test_a_chunk_takes_no_lock_and_makes_no_thread_and_no_poll_object(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Semaphore(0)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        for _ in range(CHUNKS):
            assert may_go_on.acquire(timeout=PATIENCE_S)
            peer.chunk(request, b"x")
        peer.end(request.request_id)

    reader = threading.get_ident()
    made: list[str] = []
    taken: list[object] = []

    def counted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == reader:
                made.append(name)
            return make(*arguments, **options)

        return counting

    make_lock = threading.Lock
    with ScriptedDaemon(script, socket_path) as daemon:
        with monkeypatch.context() as patched:
            patched.setattr("connector_sdk.client.threading.Lock", lambda: _Counted(taken, make_lock))
            client = RuntimeClient(config_for(socket_path))
            response = client.open_stream(GET("http://u/"))
        assert taken  # the pool's: the count works
        taken.clear()
        pieces = response.iter_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(select, "poll", counted("poll", select.poll))
            patched.setattr(threading.Thread, "start", counted("thread", threading.Thread.start))
            patched.setattr(threading, "Lock", counted("lock", threading.Lock))
            for _ in range(CHUNKS):
                may_go_on.release()
                assert next(pieces) == b"x"
        assert (taken, made) == ([], [])
        assert list(pieces) == []
        assert taken  # the end of the stream is decided under the lock
        client.close()
        assert daemon.peers
