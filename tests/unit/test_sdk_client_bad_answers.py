"""What the client makes of answers that break the protocol, or carry no response."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, response_frame, say_hello, socket_path

from connector_sdk import GET, ConnectorException, ErrorClass, RuntimeClient
from connector_sdk.wire import ExecuteRequest, ExecuteResponse, HealthCheckResponse, encode_message

__all__ = ["socket_path"]

REQUEST = GET("http://u/")


def _failure(client: RuntimeClient) -> ConnectorException:
    with pytest.raises(ConnectorException) as e:
        client.execute_http(REQUEST)
    assert "\n" not in str(e.value)
    return e.value


def _health(request: ExecuteRequest) -> bytes:
    return encode_message(HealthCheckResponse(healthy=True))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda request: bytes(4), "frame length 0"),
        (lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n", "frame length 1213486160 exceeds the limit"),
        (lambda request: struct.pack(">IB", 9, 1) + b"garbage!", "broke the protocol: root"),
        (lambda request: struct.pack(">IB", 1, 77), "unknown message type 77"),
        (_health, "HealthCheckResponse, which nobody asked for"),
        (
            lambda request: encode_message(ExecuteResponse(request_id=99)),
            "ExecuteResponse for request 99, which is not in flight",
        ),
    ],
)
def test_what_answers_does_not_speak_the_protocol(
    socket_path: str, answer: Callable[[ExecuteRequest], bytes], message: str
) -> None:
    """The error says so, and nothing of that answer reaches the next call."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(answer(request))

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        error = _failure(client)
        daemon.script = say_hello
        assert client.execute_http(REQUEST).body == b"hello"
        assert len(daemon.peers) == 2
    assert message in str(error)
    assert socket_path in str(error)
    assert error.error_class is ErrorClass.PERMANENT


def test_a_daemon_that_could_not_read_the_request(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(error_frame(0, ErrorClass.INVALID_REQUEST, "Invalid FlatBuffers message"))

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        error = _failure(client)
    assert str(error) == "the daemon could not read the request: Invalid FlatBuffers message"
    assert error.error_class is ErrorClass.INVALID_REQUEST


NO_JSON_RESPONSES = [
    None,
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"status_code": "200"}',
    b'{"status_code": 200, "headers": []}',
    b'{"status_code": 200, "body_base64": "*"}',
    b'{"status_code": 200, "body": "\\ud800"}',
    b'{"status_code": 200, "x": ' + b"[" * 100_000,
]


@pytest.mark.parametrize(
    ("is_legacy", "payload"),
    [*((True, payload) for payload in NO_JSON_RESPONSES), (False, None), (False, b'{"status_code": 200}')],
)
def test_a_payload_that_is_no_response(socket_path: str, is_legacy: bool, payload: bytes | None) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(encode_message(ExecuteResponse(request_id=request.request_id, payload=payload)))

    with (
        ScriptedDaemon(script, socket_path, is_legacy=is_legacy),
        RuntimeClient(config_for(socket_path)) as client,
    ):
        error = _failure(client)
    assert "the daemon's answer cannot be read" in str(error)
    assert error.error_class is ErrorClass.PERMANENT


@pytest.mark.parametrize("is_legacy", [False, True])
def test_an_answer_too_many_is_not_taken_for_the_next_one(socket_path: str, is_legacy: bool) -> None:
    def twice(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(response_frame(request, body=request.trace_id) * 2)

    with (
        ScriptedDaemon(twice, socket_path, is_legacy=is_legacy) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        for name in ("one", "two"):
            assert client.execute_http(REQUEST.with_trace_id(name)).body == name.encode()
        assert len(daemon.peers) == 2
