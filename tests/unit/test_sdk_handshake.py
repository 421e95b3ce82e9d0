"""How a client and what it connects to get to know each other, and part."""

from __future__ import annotations

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, response_frame, say_hello, socket_path

import connector_sdk.connection_errors
from connector_sdk import GET, ConnectorException, ErrorClass, RuntimeClient
from connector_sdk.wire import CreditUpdate, ExecuteRequest, GoAway, PayloadFormat, ResponseMode, encode_message
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES

__all__ = ["socket_path"]

REQUEST = GET("http://u/")


def test_every_connection_begins_with_one_hello(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(3):
            client.execute_http(REQUEST)
    (hello,) = daemon.hellos
    assert (hello.protocol_version, hello.stream_window_bytes) == (1, DEFAULT_WINDOW_BYTES)
    assert hello.agent


def test_the_existing_runtime_is_asked_only_what_it_knows(socket_path: str) -> None:
    """Whatever the call, on the one connection that it took Hello badly on."""
    with (
        ScriptedDaemon(say_hello, socket_path, is_legacy=True) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        assert client.execute_http(REQUEST).body == b"hello"
        with client.stream_http(REQUEST) as response:
            assert (response.status_code, list(response.iter_bytes())) == (200, [b"hello"])
        assert len(daemon.peers) == 1
    for request in daemon.requests:
        assert request.response_mode is ResponseMode.BUFFERED
        assert request.payload_format is PayloadFormat.JSON


def _failure(client: RuntimeClient) -> ConnectorException:
    with pytest.raises(ConnectorException) as e:
        client.connect()
    assert "\n" not in str(e.value)
    return e.value


def test_someone_who_speaks_another_protocol(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        daemon.greet = lambda peer: peer.send(b"220 mail.example ESMTP\r\n")
        error = _failure(RuntimeClient(config_for(socket_path)))
    assert f"what answers at socket {socket_path} broke the protocol" in str(error)
    assert error.error_class is ErrorClass.PERMANENT


def test_someone_who_never_answers(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_sdk.connection_errors, "CONNECT_TIMEOUT_MS", 30)
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        daemon.greet = lambda peer: None
        error = _failure(RuntimeClient(config_for(socket_path)))
    assert f"the daemon at socket {socket_path} accepted a connection and did not answer" in str(error)
    assert error.error_class is ErrorClass.TIMEOUT


def test_someone_who_hangs_up(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon:
        daemon.greet = Peer.hang_up
        error = _failure(RuntimeClient(config_for(socket_path)))
    assert f"lost the connection to the daemon at socket {socket_path}" in str(error)
    assert error.is_retryable()


@pytest.mark.parametrize("is_before_the_answer", [True, False])
def test_a_daemon_that_goes_away_answers_what_it_has_and_is_asked_no_more(
    socket_path: str, is_before_the_answer: bool
) -> None:
    """Whether the client hears of it before its answer or after."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        answer, going = response_frame(request, body="last"), encode_message(GoAway(reason="draining"))
        peer.send(going + answer if is_before_the_answer else answer + going)

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            assert client.execute_http(REQUEST).body == b"last"
        assert len(daemon.peers) == 2


def test_a_stream_goes_on_while_the_daemon_goes_away(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request)
        peer.say(GoAway(reason="draining"))
        peer.chunk(request, b"all")
        peer.end(request.request_id)

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            with client.stream_http(REQUEST) as response:
                assert response.read() == b"all"
        assert len(daemon.peers) == 2


def test_news_about_credits_costs_an_idle_connection_nothing(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(response_frame(request, body="hello") + encode_message(CreditUpdate(total_credits=7)))

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        for _ in range(2):
            assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 1
