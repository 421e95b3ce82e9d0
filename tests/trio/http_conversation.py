"""One connection and its exchange, with an upstream that has said everything already."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import memory_stream_pair

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.connection import Connection
from vastar_runtime.http.request import build_request
from vastar_runtime.http.response import ResponseHead
from vastar_runtime.http.url import parse_url

OK = b"HTTP/1.1 200 OK\r\n"

RESPONSES = {
    "content-length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "content-length 0": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "content-length twice the same": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunked, empty": (OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b""),
    "chunked, padded sizes": (OK + b"Transfer-Encoding: chunked\r\n\r\n00005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "chunk extensions": (
        OK + b'Transfer-Encoding: chunked\r\n\r\n5;name=value;quoted="x"\r\nhello\r\n0;last\r\n\r\n',
        b"hello",
    ),
    "trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n",
        b"hello",
    ),
    "no reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "no blank after the status": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
    "a 100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "103 and 102 first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        + OK + b"Content-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n", b""),
    "204 that is chunked": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b""),
}  # fmt: skip


class Conversation:
    """A connection and its exchange, with an upstream that has said everything already."""

    def __init__(self, method: str = "GET", body: bytes = b"", **connection_options) -> None:
        stream, self.upstream = memory_stream_pair()
        self.connection = Connection(stream, "host.example:80", **connection_options)
        self.request = build_request(method, parse_url("http://host.example/path?query"), (), body)
        self.head = ResponseHead(0, ())
        self.body: list[bytes] = []

    async def run(self, answer: bytes = b"", *, closes: bool = False, pieces: Iterable[bytes] | None = None) -> bytes:
        """Send the request, read the response; its body."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upstream, pieces if pieces is not None else [answer], closes)
            await self.connection.send_request(self.request, lambda _: None)
            self.head = await self.connection.receive_head()
            self.body.clear()
            while (piece := await self.connection.receive_body()) is not None:
                self.body.append(piece)
        return b"".join(self.body)

    async def _upstream(self, pieces: Iterable[bytes], closes: bool) -> None:
        for piece in pieces:
            await self.upstream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        if closes:
            await self.upstream.send_eof()

    async def fails(self, answer: bytes, *, closes: bool = False) -> UpstreamError:
        with pytest.RaisesGroup(UpstreamError) as caught:
            await self.run(answer, closes=closes)
        error = caught.value.exceptions[0]
        assert isinstance(error, UpstreamError)
        assert error.error_class is ErrorClass.TRANSIENT
        return error


def header(conversation: Conversation, name: bytes) -> bytes | None:
    return dict(conversation.head.headers).get(name)
