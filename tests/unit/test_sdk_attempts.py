"""What the daemon says about its tries: how often it sent a request, and how long to wait before another one."""

from __future__ import annotations

import pickle

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

from connector_sdk import GET, AsyncRuntimeClient, ConnectorException, ErrorClass, RuntimeClient
from connector_sdk.wire import (
    BodyChunk,
    ExecuteRequest,
    ExecuteResponse,
    HttpResponse,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.messages import HTTP_RESPONSE_CODEC

__all__ = ["socket_path"]

REQUEST = GET("http://u/")


def _succeeds_the_third_time(peer: Peer, request: ExecuteRequest) -> None:
    if request.response_mode is ResponseMode.BUFFERED:
        payload = HTTP_RESPONSE_CODEC.encode(HttpResponse(status_code=200))
        peer.send(encode_message(ExecuteResponse(request_id=request.request_id, payload=payload, attempts=3)))
    else:
        peer.say(ResponseHead(request_id=request.request_id, status_code=200, attempts=3))
        peer.end(request.request_id)


def _is_limited(peer: Peer, request: ExecuteRequest) -> None:
    limited = {"error_class": ErrorClass.RATE_LIMITED, "error_message": "slowly", "retry_after_ms": 1500, "attempts": 2}
    if request.response_mode is ResponseMode.BUFFERED:
        peer.send(encode_message(ExecuteResponse(request_id=request.request_id, **limited)))
    else:
        peer.say(ResponseHead(request_id=request.request_id, status_code=200, attempts=2))
        peer.say(BodyChunk(request_id=request.request_id, data=b"begun"))
        peer.say(ResponseEnd(request_id=request.request_id, **limited))


def test_a_response_tells_how_often_it_was_tried(socket_path: str) -> None:
    with (
        ScriptedDaemon(_succeeds_the_third_time, socket_path),
        RuntimeClient(config_for(socket_path)) as client,
        client.stream_http(REQUEST) as stream,
    ):
        assert stream.attempts == 3
        assert client.execute_http(REQUEST).attempts == 3


async def test_an_async_response_tells_how_often_it_was_tried(socket_path: str) -> None:
    with ScriptedDaemon(_succeeds_the_third_time, socket_path):
        async with AsyncRuntimeClient(config_for(socket_path)) as client, client.stream_http(REQUEST) as stream:
            assert stream.attempts == 3
            assert (await client.execute_http(REQUEST)).attempts == 3


def test_an_exception_tells_how_long_to_wait(socket_path: str) -> None:
    with ScriptedDaemon(_is_limited, socket_path), RuntimeClient(config_for(socket_path)) as client:
        with pytest.raises(ConnectorException, match="slowly") as refused:
            client.execute_http(REQUEST)
        with client.stream_http(REQUEST) as stream, pytest.raises(ConnectorException, match="slowly") as broken_off:
            stream.read()
    for error in (refused.value, broken_off.value, pickle.loads(pickle.dumps(refused.value))):
        assert (error.error_class, error.retry_after_ms, error.attempts) == (ErrorClass.RATE_LIMITED, 1500, 2)
