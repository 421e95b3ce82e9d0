"""A response that is read while it comes, on anyio."""

from __future__ import annotations

import codecs
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, Self, TypeVar

from anyio import move_on_after
from anyio.lowlevel import current_token

from .async_connection import AsyncConnection, Exchange
from .connection_errors import closed_early
from .error_answer import BODY_WAIT_MS, MAX_BODY_BYTES, Asked, is_error, status_error
from .errors import ConnectorException
from .event_loop import call_soon
from .headers import Headers
from .http_payload import raise_for_end
from .sse import ServerSentEvent, SSEDecoder
from .streaming import LineSplitter, charset
from .wire import BodyChunk, ResponseEnd, ResponseHead

From = TypeVar("From")
To = TypeVar("To")


class AsyncStreamedResponse:
    """As ``StreamedResponse``; read by one task at a time. Any may close it."""

    def __init__(self, head: ResponseHead, pieces: LivePieces | WholeBody, asked: Asked | None = None) -> None:
        self.request_id = head.request_id
        self.status_code = head.status_code
        self.headers = Headers(head.headers or ())
        self.attempts = head.attempts
        self.asked = asked
        self._pieces = pieces

    def __repr__(self) -> str:
        return f"<AsyncStreamedResponse {self.request_id} status {self.status_code}>"

    def raise_for_status(self) -> Self:
        """As ``HTTPResponse.raise_for_status``, but that it never waits, and so does not show the body.

        Raises:
            APIError: see there.
        """
        if is_error(self.status_code):
            raise status_error(self, b"")
        return self

    async def araise_for_status(self) -> Self:
        """As ``StreamedResponse.raise_for_status``.

        Raises:
            APIError: see there.
        """
        if is_error(self.status_code):
            raise status_error(self, await self._beginning())
        return self

    async def _beginning(self) -> bytes:
        found = bytearray()
        with contextlib.suppress(ConnectorException), move_on_after(BODY_WAIT_MS / 1000):
            async for piece in self._pieces:
                found += piece
                if len(found) >= MAX_BODY_BYTES:
                    break
        return bytes(found)

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """As ``StreamedResponse.iter_bytes``."""
        return self._pieces

    def aiter_text(self) -> AsyncIterator[str]:
        """As ``StreamedResponse.iter_text``."""
        decoder = codecs.getincrementaldecoder(charset(self.headers))(errors="replace")
        return _Converted(
            self._pieces,
            lambda piece: filter(None, [decoder.decode(piece)]),
            lambda: filter(None, [decoder.decode(b"", True)]),
        )

    def aiter_lines(self) -> AsyncIterator[str]:
        """As ``StreamedResponse.iter_lines``."""
        lines = LineSplitter()
        return _Converted(self.aiter_text(), lines.feed, lines.flush)

    def aiter_sse(self) -> AsyncIterator[ServerSentEvent]:
        """As ``StreamedResponse.iter_sse``."""
        return _Converted(self._pieces, SSEDecoder().feed, lambda: ())

    async def aread(self) -> bytes:
        """What is left of the body, whole."""
        return b"".join([piece async for piece in self._pieces])

    def close(self) -> None:
        """As ``StreamedResponse.close``. Never waits."""
        self._pieces.close()


class _Converted(Generic[From, To]):
    """What a decoder makes of the items of another iterator.

    No generator: one that is left early wants to be closed, and trio warns about each that is not.

    Args:
        feed: what an item completes.
        flush: what is left at the end.
    """

    def __init__(
        self, items: AsyncIterator[From], feed: Callable[[From], Iterable[To]], flush: Callable[[], Iterable[To]]
    ) -> None:
        self._items = items
        self._feed = feed
        self._flush = flush
        self._ready: deque[To] = deque()
        self._is_ended = False

    def __aiter__(self) -> _Converted[From, To]:
        return self

    async def __anext__(self) -> To:
        while not self._ready:
            if self._is_ended:
                raise StopAsyncIteration
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                self._is_ended = True
                self._ready.extend(self._flush())
            else:
                self._ready.extend(self._feed(item))
        return self._ready.popleft()


class LivePieces:
    """The body of a streamed exchange, piece by piece. Dropped unclosed, it is cancelled when Python collects it."""

    def __init__(
        self, connection: AsyncConnection, exchange: Exchange, piece_ms: int | None, release: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._piece_ms = piece_ms
        self._when_ended = release
        self._when_dropped = weakref.finalize(self, call_soon, current_token(), release)
        self._when_dropped.atexit = False
        self._unreturned_bytes = 0
        self._is_ended = False
        self._failure: ConnectorException | None = None

    def __aiter__(self) -> LivePieces:
        return self

    async def __anext__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        while not self._is_ended:
            self._connection.consumed(self._exchange, self._unreturned_bytes)
            self._unreturned_bytes = 0
            try:
                message = await self._connection.receive(self._exchange, self._piece_ms)
                if isinstance(message, BodyChunk):
                    if message.data:
                        self._unreturned_bytes = len(message.data)
                        return message.data
                    continue
                assert isinstance(message, ResponseEnd)  # the only other one that the rules have after the head
                self._is_ended = True
                self._release()
                raise_for_end(message)
            except ConnectorException as error:
                self._failure = error
                if not self._is_ended:
                    self._release()
                raise
        raise StopAsyncIteration

    def close(self) -> None:
        """Cancel what is unfinished."""
        if not self._is_ended and self._failure is None:
            self._failure = closed_early(self._exchange.request_id)
            self._release()

    def _release(self) -> None:
        self._when_dropped.detach()
        self._when_ended()


class WholeBody:
    """A body that is there already."""

    def __init__(self, body: bytes, request_id: int) -> None:
        self._body = body
        self._request_id = request_id
        self._is_closed = False

    def __aiter__(self) -> WholeBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._body:
            raise StopAsyncIteration
        if self._is_closed:
            raise closed_early(self._request_id)
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """What is left is not to be read."""
        self._is_closed = True
