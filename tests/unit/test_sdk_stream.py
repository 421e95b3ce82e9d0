"""stream_http against a scripted daemon: pieces as they come, credits, cancellation, and streams that break off."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, say_hello, socket_path, stay_silent

import connector_sdk.connection
import connector_sdk.connection_errors
from connector_sdk import GET, ConnectorException, ErrorClass, HTTPRequest, RuntimeClient
from connector_sdk.wire import CreditUpdate, ExecuteRequest, ResponseEnd, ResponseMode, encode_message
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES

__all__ = ["socket_path"]

REQUEST = GET("http://u/")
PATIENCE_S = 20


def _failure(read: Callable[[], Any]) -> ConnectorException:
    with pytest.raises(ConnectorException) as e:
        read()
    assert "\n" not in str(e.value)
    return e.value


def test_head_and_pieces_are_there_as_soon_as_they_are_sent(socket_path: str) -> None:
    """The daemon sends nothing more until the client has seen what it sent before."""
    seen = [threading.Event(), threading.Event()]

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 201, ("Content-Type", "text/plain"), ("Set-Cookie", "a"), ("Set-Cookie", "b"))
        assert seen[0].wait(PATIENCE_S)
        peer.chunk(request, b"one")
        assert seen[1].wait(PATIENCE_S)
        peer.chunk(request, b"two")
        peer.end(request.request_id)

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST) as response:
            assert (response.status_code, response.headers["content-type"]) == (201, "text/plain")
            assert response.headers.get_list("set-cookie") == ["a", "b"]
            seen[0].set()
            pieces = response.iter_bytes()
            assert next(pieces) == b"one"
            seen[1].set()
            assert list(pieces) == [b"two"]
        assert len(daemon.peers) == 1
    assert daemon.requests[0].response_mode is ResponseMode.STREAM
    assert response.request_id == daemon.requests[0].request_id


def test_streams_and_calls_share_a_connection_one_after_another(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            with client.stream_http(REQUEST) as response:
                assert response.read() == b"hello"
                assert response.read() == b""
            assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 1
        assert daemon.cancelled == []


def test_two_threads_stream_at_the_same_time(socket_path: str) -> None:
    """Each stream goes on only once the other has begun."""
    both_are_here = threading.Barrier(2)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        for _ in range(3):
            both_are_here.wait(PATIENCE_S)
            peer.chunk(request, str(request.trace_id).encode())
        peer.end(request.request_id)

    bodies: dict[str, bytes] = {}

    def call(name: str) -> None:
        with client.stream_http(REQUEST.with_trace_id(name)) as response:
            bodies[name] = response.read()

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        threads = [threading.Thread(target=call, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bodies == {"a": b"aaa", "b": b"bbb"}


# --- leaving early ---


def _endless(peer: Peer, request: ExecuteRequest) -> None:
    """A stream that has more to say, to whoever listens."""
    peer.head(request)
    peer.chunk(request, b"first")
    peer.chunk(request, b"second")


@pytest.mark.parametrize(
    "leave",
    [
        lambda response: None,
        lambda response: next(response.iter_bytes()),
        lambda response: response.close(),
        lambda response: (response.close(), response.close()),
    ],
)
def test_leaving_early_cancels_and_keeps_the_connection(socket_path: str, leave: Callable[[Any], object]) -> None:
    with ScriptedDaemon(_endless, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST) as response:
            leave(response)
        assert daemon.cancelled == [daemon.requests[0].request_id]
        daemon.script = say_hello
        assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 1


def test_an_exception_in_the_block_cancels_too(socket_path: str) -> None:
    with ScriptedDaemon(_endless, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        with pytest.raises(ZeroDivisionError), client.stream_http(REQUEST):
            _ = 1 / 0
        assert daemon.cancelled == [daemon.requests[0].request_id]


def test_a_response_that_was_closed_cannot_be_taken_for_a_whole_one(socket_path: str) -> None:
    with ScriptedDaemon(_endless, socket_path), RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST) as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"first"
        for read in (pieces.__next__, response.read):
            error = _failure(read)
            assert str(error) == "the response was closed before its end"
            assert error.error_class is ErrorClass.CANCELLED
            assert not error.is_retryable()


def test_a_daemon_that_does_not_heed_a_cancel_loses_the_connection(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_sdk.connection, "CANCEL_TIMEOUT_MS", 20)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        stay_silent(peer, request)

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST):
            daemon.script = say_hello
        assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 2


def test_a_stream_that_ends_as_it_is_cancelled(socket_path: str) -> None:
    """Its end was on its way already: that is the answer, and the daemon has none to the Cancel."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body="whole")

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            with client.stream_http(REQUEST):
                pass
        assert len(daemon.peers) == 1
        assert daemon.cancelled == []


# --- credit ---


def _send_all(peer: Peer, request: ExecuteRequest, size: int) -> list[int]:
    """Send so many bytes as credit allows, and return the credits that it took."""
    window, credits = peer.wire.window(request.request_id), []
    while size:
        data = bytes(window.take(min(size, 60_000)))
        if data:
            peer.chunk(request, data)
            size -= len(data)
        else:
            event = peer.next_event()
            assert isinstance(event, CreditUpdate)
            credits.append(event.credit_delta)
    return credits


def test_a_body_of_many_windows(socket_path: str) -> None:
    size = 5 * DEFAULT_WINDOW_BYTES + 7
    credits: list[int] = []

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        credits.extend(_send_all(peer, request, size))
        peer.end(request.request_id)

    with (
        ScriptedDaemon(script, socket_path),
        RuntimeClient(config_for(socket_path)) as client,
        client.stream_http(REQUEST) as response,
    ):
        assert sum(map(len, response.iter_bytes())) == size
    assert sum(credits) >= size - DEFAULT_WINDOW_BYTES
    assert min(credits) >= DEFAULT_WINDOW_BYTES // 4


def test_credit_goes_back_as_the_application_consumes(socket_path: str) -> None:
    """Not as the client receives: two quarters of the window are there, and the piece in hand is not used up yet."""
    is_sent, may_end = threading.Event(), threading.Event()

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        for _ in range(2):
            peer.chunk(request, bytes(peer.wire.window(request.request_id).take(DEFAULT_WINDOW_BYTES // 4)))
        is_sent.set()
        assert may_end.wait(PATIENCE_S)
        _send_all(peer, request, 1)
        peer.end(request.request_id)

    with (
        ScriptedDaemon(script, socket_path) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
        client.stream_http(REQUEST) as response,
    ):
        pieces = response.iter_bytes()
        next(pieces)
        assert is_sent.wait(PATIENCE_S)
        assert select.select([daemon.peers[0].socket], [], [], 0)[0] == []
        next(pieces)
        assert select.select([daemon.peers[0].socket], [], [], PATIENCE_S)[0] != []
        may_end.set()
        assert list(pieces) == [b"\0"]


# --- failures ---


def _ends_at_once(peer: Peer, request: ExecuteRequest) -> None:
    peer.end(request.request_id, ErrorClass.TRANSIENT, "no upstream")


def _is_refused(peer: Peer, request: ExecuteRequest) -> None:
    peer.send(error_frame(request.request_id, ErrorClass.RATE_LIMITED, "too many"))


def _ends_well_without_a_head(peer: Peer, request: ExecuteRequest) -> None:
    peer.send(encode_message(ResponseEnd(request_id=request.request_id)))


@pytest.mark.parametrize(
    ("script", "message", "error_class"),
    [
        (_ends_at_once, "no upstream", ErrorClass.TRANSIENT),
        (_is_refused, "too many", ErrorClass.RATE_LIMITED),
        (_ends_well_without_a_head, "the daemon ended the stream without a response", ErrorClass.PERMANENT),
    ],
)
def test_a_failure_before_the_head_is_raised_on_entering(
    socket_path: str, script: Callable[..., None], message: str, error_class: ErrorClass
) -> None:
    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            error = _failure(client.stream_http(REQUEST).__enter__)
            assert (str(error), error.error_class) == (message, error_class)
        assert len(daemon.peers) == 1


def test_a_failure_after_the_head_comes_after_what_was_delivered(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        _endless(peer, request)
        peer.end(request.request_id, ErrorClass.TRANSIENT, "the upstream stopped")

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            with client.stream_http(REQUEST) as response:
                pieces = response.iter_bytes()
                assert [next(pieces), next(pieces)] == [b"first", b"second"]
                for read in (pieces.__next__, response.read, response.read):
                    error = _failure(read)
                    assert (str(error), error.error_class) == ("the upstream stopped", ErrorClass.TRANSIENT)
        assert len(daemon.peers) == 1
        assert daemon.cancelled == []


def test_a_connection_lost_inside_a_stream(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        _endless(peer, request)
        peer.hang_up()

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST) as response:
            pieces = response.iter_bytes()
            assert [next(pieces), next(pieces)] == [b"first", b"second"]
            error = _failure(pieces.__next__)
        assert f"lost the connection to the daemon at socket {socket_path}" in str(error)
        assert error.is_retryable()


def test_a_stream_that_outlives_its_time(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connector_sdk.connection, connector_sdk.connection_errors):
        monkeypatch.setattr(module, "ANSWER_GRACE_MS", 60)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        _endless(peer, request)
        stay_silent(peer, request)

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        client.connect()
        with client.stream_http(REQUEST.with_timeout(40)) as response:
            error = _failure(response.read)
        assert error.error_class is ErrorClass.TIMEOUT
        assert "did not answer within 100 ms" in str(error)


def test_a_chunk_for_nobody_breaks_the_protocol(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        _endless(peer, request)
        peer.send(encode_message(ResponseEnd(request_id=99)))

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        with client.stream_http(REQUEST) as response:
            error = _failure(response.read)
        assert "broke the protocol: ResponseEnd for request 99" in str(error)
        assert error.error_class is ErrorClass.PERMANENT


def test_a_wrong_type_is_named_before_anything_is_sent() -> None:
    with pytest.raises(TypeError, match="url must be str"):
        RuntimeClient(config_for("/nowhere/at/all")).stream_http(HTTPRequest("GET", 7)).__enter__()
