"""A thread closes a response in the very moment in which another one gets something from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

from connector_sdk import GET, ConnectorException, ErrorClass, RuntimeClient
from connector_sdk.body import LiveBody
from connector_sdk.connection import Answer, Connection
from connector_sdk.streaming import StreamedResponse
from connector_sdk.wire import BodyChunk, ExecuteRequest, ResponseEnd, ResponseMode

__all__ = ["socket_path"]

REQUEST = GET("http://u/")


def _begins_and_ends(peer: Peer, request: ExecuteRequest) -> None:
    if request.response_mode is ResponseMode.BUFFERED:
        peer.answer(request, body="hello")
        return
    peer.head(request)
    peer.chunk(request, b"begun")
    peer.end(request.request_id)


def _begins(peer: Peer, request: ExecuteRequest) -> None:
    peer.head(request)
    peer.chunk(request, b"begun")


def _in_another_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def _body(response: StreamedResponse) -> LiveBody:
    body = response._body
    assert isinstance(body, LiveBody)
    return body


@pytest.mark.parametrize("moment", [BodyChunk, ResponseEnd])
def test_closed_while_the_reader_has_the_connection_which_the_reader_then_closes(
    socket_path: str, monkeypatch: pytest.MonkeyPatch, moment: type[Any]
) -> None:
    receive = Connection.receive
    closed: list[Connection] = []
    pieces: list[bytes] = []
    close = Connection.close

    def receive_and_be_closed(connection: Connection, within_ms: int | None = None) -> Answer:
        message = receive(connection, within_ms)
        if isinstance(message, moment):
            _in_another_thread(response.close)
            assert closed == []  # only interrupted: its descriptor must not become another's under the reader
        return message

    def note_and_close(connection: Connection) -> None:
        closed.append(connection)
        close(connection)

    with (
        ScriptedDaemon(_begins_and_ends, socket_path) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        response = client.open_stream(REQUEST)
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "receive", receive_and_be_closed)
            patched.setattr(Connection, "close", note_and_close)
            with pytest.raises(ConnectorException, match="closed before its end") as caught:
                pieces.extend(response.iter_bytes())
        assert caught.value.error_class is ErrorClass.CANCELLED
        assert pieces == ([] if moment is BodyChunk else [b"begun"])
        assert len(closed) == 1
        assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 2


def test_closed_once_the_reader_has_let_go_of_the_connection_which_is_then_kept(socket_path: str) -> None:
    class Turn(list[Connection]):
        def append(self, connection: Connection) -> None:
            super().append(connection)
            _in_another_thread(response.close)

    with (
        ScriptedDaemon(_begins, socket_path) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        response = client.open_stream(REQUEST)
        body = _body(response)
        body._turn = Turn(body._turn)
        with pytest.raises(ConnectorException, match="closed before its end"):
            next(response.iter_bytes())
        assert len(daemon.cancelled) == 1
        with client.stream_http(REQUEST) as another:
            assert next(another.iter_bytes()) == b"begun"
        assert len(daemon.peers) == 1


def test_a_response_that_has_ended_does_not_shorten_what_its_connection_does_next(socket_path: str) -> None:
    with (
        ScriptedDaemon(_begins_and_ends, socket_path),
        RuntimeClient(config_for(socket_path)) as client,
    ):
        with client.stream_http(REQUEST) as first:
            assert first.read() == b"begun"
        with client.stream_http(REQUEST) as second:
            connection = _body(second)._connection
            assert connection is _body(first)._connection
            deadline = connection._deadline
            first.end_within(0)
            assert connection._deadline == deadline
            second.end_within(0)
            assert connection._deadline < deadline
