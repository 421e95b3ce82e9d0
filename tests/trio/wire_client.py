"""A client of the wire for tests: messages and bytes in, messages out, nothing hidden."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from connector_sdk.wire import (
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    FrameDecoder,
    HealthCheck,
    HealthCheckResponse,
    Message,
    decode_message,
    encode_message,
)


class Answer:
    """An ExecuteResponse, and what its payload says."""

    def __init__(self, response: ExecuteResponse) -> None:
        self.request_id = response.request_id
        self.error_class = response.error_class
        self.message = response.error_message or ""
        self.payload = None if response.payload is None else json.loads(response.payload)
        self.duration_us = response.duration_us

    def __repr__(self) -> str:
        return f"<{self.request_id} {self.error_class.name} {self.message!r} {str(self.payload)[:200]}>"

    @property
    def status(self) -> int:
        return self._delivered["status_code"]

    @property
    def headers(self) -> dict[str, str]:
        return self._delivered["headers"]

    @property
    def body(self) -> str:
        return self._delivered["body"]

    @property
    def _delivered(self) -> dict[str, Any]:
        assert self.error_class is ErrorClass.SUCCESS, self
        assert self.payload is not None
        return self.payload


def execute_request(request_id: int, payload: bytes | dict[str, Any] | None, **fields: Any) -> ExecuteRequest:
    """As an SDK makes it: a dict becomes the JSON payload."""
    if isinstance(payload, dict):
        payload = json.dumps(payload).encode()
    return ExecuteRequest(
        **{
            "request_id": request_id,
            "tenant_id": "tenant",
            "connector_name": "http",
            "operation": "request",
            "payload": payload,
            **fields,
        }
    )


class WireClient:
    """One connection to a daemon, over any stream."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._request_ids = itertools.count(1)

    async def send(self, *messages: Message | bytes) -> None:
        """All in one write; bytes go out as they are."""
        frames = (message if isinstance(message, bytes) else encode_message(message) for message in messages)
        await self.stream.send_all(b"".join(frames))

    async def receive(self) -> Message | None:
        """The next message; None when the daemon has closed the connection."""
        while (frame := self._decoder.next_frame()) is None:
            data = await self.stream.receive_some()
            if not data:
                assert not self._decoder.is_mid_frame, "the connection ended inside a frame"
                return None
            self._decoder.receive_data(bytes(data))
        return decode_message(*frame)

    async def begin(self, payload: bytes | dict[str, Any] | None, **fields: Any) -> int:
        """Send a request; its id."""
        request = execute_request(next(self._request_ids), payload, **fields)
        await self.send(request)
        return request.request_id

    async def answer(self) -> Answer:
        message = await self.receive()
        assert isinstance(message, ExecuteResponse), message
        return Answer(message)

    async def execute(self, payload: bytes | dict[str, Any] | None, **fields: Any) -> Answer:
        """A request and its answer, with nothing else under way."""
        request_id = await self.begin(payload, **fields)
        answer = await self.answer()
        assert answer.request_id == request_id, answer
        return answer

    async def get(self, url: str, **parameters: Any) -> Answer:
        return await self.execute({"url": url, **parameters})

    async def health(self) -> HealthCheckResponse:
        await self.send(HealthCheck())
        message = await self.receive()
        assert isinstance(message, HealthCheckResponse), message
        return message

    async def end(self) -> None:
        """Nothing more comes: the daemon has closed the connection."""
        assert await self.receive() is None

    async def close(self) -> None:
        await self.stream.aclose()


@asynccontextmanager
async def connected(address: str | int) -> AsyncIterator[WireClient]:
    """A client of the daemon at a socket's path or at a port of 127.0.0.1."""
    if isinstance(address, str):
        stream: trio.SocketStream = await trio.open_unix_socket(address)
    else:
        stream = await trio.open_tcp_stream("127.0.0.1", address)
    async with stream:
        yield WireClient(stream)
