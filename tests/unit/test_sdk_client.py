"""The blocking client against a scripted daemon: what it sends, what it gives back, and how calls share connections."""

from __future__ import annotations

import base64
import threading
import time

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, response_frame, say_hello, socket_path

import connector_sdk.client
from connector_sdk import (
    DELETE,
    GET,
    POST,
    ConnectorException,
    ErrorClass,
    Headers,
    HTTPRequest,
    RuntimeClient,
    RuntimeConfig,
)
from connector_sdk.wire import MAX_FRAME_BYTES, ExecuteRequest, PayloadFormat
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC

__all__ = ["socket_path"]


def test_a_request_and_its_response(socket_path: str) -> None:
    """Every attribute of the request is on the wire where protocol.md wants it, and the answer comes back whole."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, status_code=404, headers={"content-type": "text/plain"}, body="nö")

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        before_ms = time.time() * 1000
        response = client.execute_http(
            HTTPRequest("post", "http://u/?a=ü", {"X-A": "1"}, b'{"a": 1}', 5000, "tenant", "space", "trace")
        )
        after_ms = time.time() * 1000
    (request,) = daemon.requests
    assert (request.connector_name, request.operation) == ("http", "request")
    assert (request.tenant_id, request.workspace_id, request.trace_id) == ("tenant", "space", "trace")
    assert before_ms + 5000 - 1 <= request.deadline_at_ms <= after_ms + 5000
    assert daemon.payloads == [
        {
            "url": "http://u/?a=ü",
            "method": "post",
            "headers": {"X-A": "1"},
            "body": '{"a": 1}',
            "timeout_ms": 5000,
        }
    ]
    assert response.request_id == request.request_id
    assert (response.status_code, response.body, response.duration_us) == (404, "nö".encode(), 1234)
    assert response.headers == {"content-type": "text/plain"}
    assert (response.error_class, response.error_message) == (ErrorClass.SUCCESS, None)


def test_what_a_request_leaves_out_comes_from_the_settings(socket_path: str) -> None:
    config = config_for(socket_path, tenant_id="t", workspace_id="w", timeout_ms=1500)
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config) as client:
        client.execute_http(GET("http://u/"))
        client.execute_http(DELETE("http://u/").with_tenant_id("mine").with_workspace_id(""))
    assert [(r.tenant_id, r.workspace_id, r.trace_id) for r in daemon.requests] == [
        ("t", "w", None),
        ("mine", None, None),
    ]
    assert daemon.payloads[0] == {"url": "http://u/", "method": "GET", "timeout_ms": 1500}


BODIES = [
    (b"", "body", ""),
    (b"text \x00 \xc3\xa9", "body", "text \x00 é"),
    ("text é", "body", "text é"),
    (bytearray(b"ab"), "body", "ab"),
    (b"\xff\xfe\x00", "body_base64", base64.b64encode(b"\xff\xfe\x00").decode()),
]


@pytest.mark.parametrize("body", [body for body, _, _ in BODIES])
def test_any_bytes_can_be_a_body(socket_path: str, body: bytes | str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        client.execute_http(POST("http://u/").with_body(body))
    (request,) = daemon.requests
    assert request.payload_format is PayloadFormat.HTTP_REQUEST
    sent = HTTP_REQUEST_CODEC.decode(request.payload or b"")
    assert sent.body == (body.encode() if isinstance(body, str) else bytes(body))


@pytest.mark.parametrize(("body", "field", "value"), BODIES)
def test_any_bytes_can_be_a_body_for_the_existing_runtime(
    socket_path: str, body: bytes | str, field: str, value: str
) -> None:
    """Text travels as text, so that it understands it; only other bytes need base64, which it does not know."""
    with (
        ScriptedDaemon(say_hello, socket_path, is_legacy=True) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        assert client.execute_http(POST("http://u/").with_body(body)).body == b"hello"
    assert {key: daemon.payloads[0][key] for key in daemon.payloads[0] if key.startswith("body")} == {field: value}
    assert daemon.requests[0].payload_format is PayloadFormat.JSON


def test_a_response_body_is_exact_when_the_runtime_says_it_exactly(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body="\ufffd", body_base64="/w==", header_list=[["a", "b"]])

    with ScriptedDaemon(script, socket_path, is_legacy=True), RuntimeClient(config_for(socket_path)) as client:
        assert client.execute_http(GET("http://u/")).body == b"\xff"


def test_a_response_of_any_bytes_with_repeated_headers(socket_path: str) -> None:
    """Repeated values stand in one text, those of Set-Cookie on a line each."""
    headers = [("Via", "1"), ("Set-Cookie", "a=1"), ("via", "2"), ("set-cookie", "b=2")]

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, headers=headers, body=b"\xff\x00")

    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        response = client.execute_http(GET("http://u/"))
    assert response.body == b"\xff\x00"
    assert response.headers == {"via": "1, 2", "set-cookie": "a=1\nb=2"}


def test_repeated_headers_of_a_request_keep_their_order(socket_path: str) -> None:
    headers = [("X-B", "1"), ("X-A", "2"), ("x-b", "3")]
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        client.execute_http(HTTPRequest("GET", "http://u/", Headers(headers)))
    assert HTTP_REQUEST_CODEC.decode(daemon.requests[0].payload or b"").headers == tuple(headers)


def test_repeated_headers_are_joined_for_the_existing_runtime(socket_path: str) -> None:
    headers = Headers([("X-B", "1"), ("X-A", "2"), ("X-B", "3")])
    with (
        ScriptedDaemon(say_hello, socket_path, is_legacy=True) as daemon,
        RuntimeClient(config_for(socket_path)) as client,
    ):
        client.execute_http(HTTPRequest("GET", "http://u/", headers))
    assert daemon.payloads[0]["headers"] == {"X-B": "1, 3", "X-A": "2"}


def test_calls_one_after_another_share_a_connection_under_increasing_ids(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        ids = [client.execute_http(GET("http://u/")).request_id for _ in range(5)]
        assert ids == sorted(set(ids))
        assert len(daemon.peers) == 1


def test_calls_of_two_threads_run_at_the_same_time(socket_path: str) -> None:
    """The daemon answers nobody until both requests are there: one connection for both would never end."""
    both_are_here = threading.Barrier(2)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        both_are_here.wait()
        peer.answer(request, body=str(request.trace_id))

    bodies: dict[str, bytes] = {}

    def call(name: str) -> None:
        bodies[name] = client.execute_http(GET("http://u/").with_trace_id(name)).body

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        threads = [threading.Thread(target=call, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == {"one": b"one", "two": b"two"}
        assert len(daemon.peers) == 2


def test_a_burst_of_threads_leaves_only_so_many_connections_open(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_sdk.client, "MAX_IDLE_CONNECTIONS", 1)
    both_are_here = threading.Barrier(2)

    def script(peer: Peer, request: ExecuteRequest) -> None:
        if request.trace_id == "burst":
            both_are_here.wait()
        peer.answer(request)

    with ScriptedDaemon(script, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        burst = GET("http://u/").with_trace_id("burst")
        threads = [threading.Thread(target=client.execute_http, args=(burst,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client._idle.stack) == 1
        for _ in range(3):
            client.execute_http(GET("http://u/"))
        assert len(daemon.peers) == 2


def test_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment says."""
    with ScriptedDaemon(say_hello, None) as daemon:
        monkeypatch.setenv("VASTAR_USE_TCP", "true")
        monkeypatch.setenv("VASTAR_TCP_HOST", "127.0.0.1")
        monkeypatch.setenv("VASTAR_TCP_PORT", str(daemon.port))
        with RuntimeClient() as client:
            assert client.execute_http(GET("http://u/")).body == b"hello"
        assert repr(client) == f"<RuntimeClient 127.0.0.1:{daemon.port} closed>"


def test_a_body_of_several_megabytes_each_way(socket_path: str) -> None:
    body = "0123456789" * 500_000

    def echo(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body=peer.daemon.payloads[-1]["body"])

    with ScriptedDaemon(echo, socket_path), RuntimeClient(config_for(socket_path)) as client:
        assert client.execute_http(POST("http://u/").with_body(body)).body == body.encode()


def test_a_request_over_the_limit_is_refused_with_both_numbers(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path) as daemon, RuntimeClient(config_for(socket_path)) as client:
        limit = rf"a frame of \d+ bytes exceeds the limit of {MAX_FRAME_BYTES}"
        with pytest.raises(ConnectorException, match=limit) as e:
            client.execute_http(POST("http://u/").with_body(bytes(MAX_FRAME_BYTES)))
        assert e.value.error_class is ErrorClass.INVALID_REQUEST
        assert client.execute_http(GET("http://u/")).body == b"hello"
        assert len(daemon.requests) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (HTTPRequest("GET", 7), "url must be str, not int"),
        (HTTPRequest(None, "http://u/"), "method must be str, not NoneType"),
        (HTTPRequest("GET", "http://u/", body={"a": 1}), "body must be bytes or .*, not dict"),
        (HTTPRequest("GET", "http://u/", headers=[("a", "b")]), "headers must be Mapping, not list"),
        (HTTPRequest("GET", "http://u/", headers={"X-N": 7}), "the value of header 'X-N' must be str, not int"),
        (HTTPRequest("GET", "http://u/", headers={7: "a"}), "header name 7 must be str, not int"),
        (HTTPRequest("GET", "http://u/", timeout_ms="5"), "timeout_ms must be int, not str"),
        (HTTPRequest("GET", "http://u/", timeout_ms=True), "timeout_ms must be int, not bool"),
        (HTTPRequest("GET", "http://u/", tenant_id=b"t"), "tenant_id must be str, not bytes"),
        (HTTPRequest("GET", "http://u/", trace_id=1), "trace_id must be str or NoneType, not int"),
    ],
)
def test_a_wrong_type_is_named_before_anything_is_sent(request_: HTTPRequest, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RuntimeClient(config_for("/nowhere/at/all")).execute_http(request_)


@pytest.mark.parametrize(
    "request_",
    [
        GET("http://u/\ud800"),
        GET("http://u/").with_tenant_id("\ud800"),
        GET("http://u/").with_timeout(0),
        GET("http://u/").with_timeout(-1),
        GET("http://u/").with_timeout(10**15),
    ],
)
def test_a_value_that_cannot_be_sent_is_an_invalid_request(request_: HTTPRequest) -> None:
    with pytest.raises(ConnectorException) as e:
        RuntimeClient(config_for("/nowhere/at/all")).execute_http(request_)
    assert e.value.error_class is ErrorClass.INVALID_REQUEST


def test_a_closed_client_says_so(socket_path: str) -> None:
    with ScriptedDaemon(say_hello, socket_path):
        client = RuntimeClient(config_for(socket_path))
        client.execute_http(GET("http://u/"))
        client.close()
        client.close()
        for call in (client.connect, lambda: client.execute_http(GET("http://u/"))):
            with pytest.raises(ConnectorException, match="client is closed") as e:
                call()
            assert not e.value.is_retryable()


def test_close_during_a_call_lets_the_call_end_and_closes_its_connection(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        client.close()
        peer.send(response_frame(request, body="still here"))

    with ScriptedDaemon(script, socket_path):
        client = RuntimeClient(config_for(socket_path))
        assert client.execute_http(GET("http://u/")).body == b"still here"
        assert client._idle.stack == []


def test_settings_changed_afterwards_change_nothing(socket_path: str) -> None:
    config = config_for(socket_path)
    client = RuntimeClient(config)
    config.socket_path = "/nowhere"
    with ScriptedDaemon(say_hello, socket_path), client:
        assert client.execute_http(GET("http://u/")).body == b"hello"
    assert isinstance(config, RuntimeConfig)
