"""A response that is read while it comes."""

from __future__ import annotations

import codecs
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol, Self

from .connection import Connection
from .error_answer import BODY_WAIT_MS, MAX_BODY_BYTES, Asked, is_error, status_error
from .errors import ConnectorException, StreamError
from .headers import Headers
from .http_payload import raise_for_end
from .sse import ServerSentEvent, SSEDecoder
from .wire import BodyChunk, ErrorClass, ResponseEnd, ResponseHead

# No text stream has a line near this; one without line ends must not fill memory.
MAX_LINE_CHARACTERS = 8 * 1024 * 1024

_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")


class Body(Protocol):
    """Where a response's pieces come from."""

    def next_piece(self) -> bytes:
        """The next piece, never empty; b"" at the end."""

    def end_within(self, timeout_ms: int) -> None:
        """What is still to come is of no interest beyond ``timeout_ms``."""

    def close(self) -> None:
        """Cancel what is unfinished."""


class StreamedResponse:
    """One response, its head there and its body on the way. Read by one thread at a time; any may close it.

    The body passes once: an iterator goes on where another has stopped. Every iterator raises ``ConnectorException``
    when the response breaks off (what it gave before stands), and when the response was closed before its end.

    Attributes:
        request_id: the request's id on its connection.
        status_code: HTTP status.
        headers: the upstream's.
        attempts: how often the daemon tried to send the request; 0: it never did, or did not say.
        asked: what it answers, for messages; None in a response that was made by hand.
    """

    def __init__(self, head: ResponseHead, body: Body, asked: Asked | None = None) -> None:
        self.request_id = head.request_id
        self.status_code = head.status_code
        self.headers = Headers(head.headers or ())
        self.attempts = head.attempts
        self.asked = asked
        self._body = body

    def __repr__(self) -> str:
        return f"<StreamedResponse {self.request_id} status {self.status_code}>"

    def raise_for_status(self) -> Self:
        """As ``HTTPResponse.raise_for_status``; what it shows of an error's body, it has read: the rest ends soon.

        Raises:
            APIError: see there.
        """
        if is_error(self.status_code):
            raise status_error(self, self._beginning())
        return self

    def _beginning(self) -> bytes:
        """Of an error's body: as much as comes at once."""
        self.end_within(BODY_WAIT_MS)
        found = bytearray()
        with contextlib.suppress(ConnectorException):  # the status is what is to be told
            while len(found) < MAX_BODY_BYTES and (piece := self._body.next_piece()):
                found += piece
        return bytes(found)

    def iter_bytes(self) -> Iterator[bytes]:
        """The pieces of the body, as they come. Asking for the next one tells the daemon that this one is used up."""
        while piece := self._body.next_piece():
            yield piece

    def iter_text(self) -> Iterator[str]:
        """The text, as it comes: in the charset of Content-Type, else UTF-8; what it cannot read becomes U+FFFD."""
        decoder = codecs.getincrementaldecoder(charset(self.headers))(errors="replace")
        for piece in self.iter_bytes():
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def iter_lines(self) -> Iterator[str]:
        """The lines, without their ends (LF, CRLF or CR).

        Raises:
            StreamError: PERMANENT, a line of more than MAX_LINE_CHARACTERS.
        """
        lines = LineSplitter()
        for text in self.iter_text():
            yield from lines.feed(text)
        yield from lines.flush()

    def iter_sse(self) -> Iterator[ServerSentEvent]:
        """The events of an event stream; one that the end of the stream cuts off is dropped, as the standard has it.

        Raises:
            StreamError: PERMANENT, an event over the decoder's limit.
        """
        decoder = SSEDecoder()
        for piece in self.iter_bytes():
            yield from decoder.feed(piece)

    def read(self) -> bytes:
        """What is left of the body, whole."""
        return b"".join(self.iter_bytes())

    def end_within(self, timeout_ms: int) -> None:
        """Let iterators wait no longer than ``timeout_ms`` from now for what is still to come."""
        self._body.end_within(timeout_ms)

    def close(self) -> None:
        """End the response; if it is unfinished, the request is cancelled. Closing twice is nothing."""
        self._body.close()


class LiveBody:
    """The body of a streamed exchange, which has its connection to itself until it ends.

    One thread reads; any thread may close.

    Args:
        release: takes the connection back once the exchange has ended.
        piece_ms: how long to wait for one piece; None: as long as the exchange may take.
    """

    def __init__(
        self,
        connection: Connection,
        request_id: int,
        release: Callable[[Connection], None],
        piece_ms: int | None = None,
    ) -> None:
        self._connection = connection
        self._piece_ms = piece_ms
        self._release = release
        self._unreturned_bytes = 0
        # Who takes the connection out has it to himself: the reader for one piece, or who closes, for good.
        # pop() and append() of a list are atomic, so that a piece costs no lock.
        self._turn = [connection]
        self._is_over = False  # set once, under the lock, by the reader at the end or by who closes before
        self._lock = threading.Lock()
        self._failure: ConnectorException | None = closed_early(request_id)

    def next_piece(self) -> bytes:
        """See Body.

        Raises:
            ConnectorException: the response broke off, or was closed before its end.
        """
        connection = self._take_turn()
        if connection is None:
            if self._failure is not None:
                raise self._failure
            return b""
        try:
            message = self._receive(connection)
        except BaseException as error:
            is_closed = not self._finish()
            connection.close()
            if isinstance(error, ConnectorException):
                if is_closed:
                    assert self._failure is not None
                    raise self._failure from error
                self._failure = error
            raise
        if isinstance(message, BodyChunk):
            data = message.data or b""
            self._unreturned_bytes = len(data)
            self._turn.append(connection)
            if self._is_over:
                self._stop()
            return data
        if not self._finish():
            self._turn.append(connection)
            self._stop()
        self._release(connection)
        try:
            raise_for_end(message)
        except ConnectorException as error:
            self._failure = error
            raise
        self._failure = None
        return b""

    def end_within(self, timeout_ms: int) -> None:
        """See Body."""
        with self._lock:  # once it is over, the connection may be at work for somebody else
            if not self._is_over:
                self._connection.end_within(timeout_ms)

    def close(self) -> None:
        """See Body."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            connection = self._take_turn()
            if connection is None:
                self._connection.interrupt()  # which wakes the reader; the rest of the exchange is not ours to read
                return
        is_reusable = False
        try:
            is_reusable = connection.cancel()
        finally:
            if not is_reusable:
                connection.close()
        if is_reusable:
            self._release(connection)

    def _take_turn(self) -> Connection | None:
        """The connection; None when somebody else has it."""
        try:
            return self._turn.pop()
        except IndexError:
            return None

    def _finish(self) -> bool:
        """The reader is through. False when another thread has closed the response meanwhile."""
        with self._lock:
            is_first, self._is_over = not self._is_over, True
        return is_first

    def _stop(self) -> NoReturn:
        """Another thread has closed the response while this one read: what was read is dropped."""
        with self._lock:  # until that thread has interrupted the connection, or has taken it
            connection = self._take_turn()
        if connection is not None:
            connection.close()
        assert self._failure is not None
        raise self._failure

    def _receive(self, connection: Connection) -> BodyChunk | ResponseEnd:
        if self._unreturned_bytes:
            connection.consumed(self._unreturned_bytes)
            self._unreturned_bytes = 0
        while True:
            message = connection.receive(self._piece_ms)
            if isinstance(message, BodyChunk):
                if message.data:
                    return message
                continue
            assert isinstance(message, ResponseEnd)  # the only other one that the rules have after the head
            return message


class BufferedBody:
    """A body that is there already."""

    def __init__(self, data: bytes, request_id: int) -> None:
        self._data = data
        self._request_id = request_id
        self._is_closed = False

    def next_piece(self) -> bytes:
        """See Body.

        Raises:
            ConnectorException: the response was closed before its end.
        """
        if self._is_closed and self._data:
            raise closed_early(self._request_id)
        data, self._data = self._data, b""
        return data

    def end_within(self, timeout_ms: int) -> None:
        """See Body: nothing is still to come."""

    def close(self) -> None:
        """See Body."""
        self._is_closed = True


class LineSplitter:
    """Turns text, cut anywhere, into lines."""

    def __init__(self) -> None:
        self._begun: list[str] = []
        self._begun_characters = 0
        self._ended_in_cr = False

    def feed(self, text: str) -> list[str]:
        """The lines that ``text`` completes, without their ends.

        Raises:
            StreamError: PERMANENT, a line of more than MAX_LINE_CHARACTERS.
        """
        if self._ended_in_cr and text.startswith("\n"):
            text = text[1:]  # the second half of a CRLF that was cut
        self._ended_in_cr = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = "".join([*self._begun, lines[0]])
            self._begun, self._begun_characters = [], 0
        self._begun.append(rest)
        self._begun_characters += len(rest)
        if self._begun_characters > MAX_LINE_CHARACTERS:
            raise StreamError(f"a line exceeds the limit of {MAX_LINE_CHARACTERS} characters", ErrorClass.PERMANENT)
        return lines

    def flush(self) -> list[str]:
        """At the end of the text: the line that it left without an end, if it holds anything."""
        line = "".join(self._begun)
        return [line] if line else []


def charset(headers: Headers) -> str:
    """The charset that Content-Type names when it is one that text can be read in; else UTF-8."""
    match = _CHARSET.search(headers.get("content-type", ""))
    if match is None:
        return "utf-8"
    try:
        b"a".decode(match[1], "replace")  # codecs that make no text, or know no replacement, refuse
        codecs.getincrementaldecoder(match[1])
    except (LookupError, ValueError):
        return "utf-8"
    return match[1]


def closed_early(request_id: int) -> ConnectorException:
    """What reading on after ``close`` gets."""
    return ConnectorException("the response was closed before its end", ErrorClass.CANCELLED, request_id)
