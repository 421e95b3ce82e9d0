"""A response that is read while it comes."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterator
from typing import Self

from .body import Body
from .error_answer import BODY_WAIT_MS, MAX_BODY_BYTES, Asked, is_error, status_error
from .errors import ConnectorException, StreamError
from .headers import Headers
from .sse import ServerSentEvent, SSEDecoder
from .wire import ErrorClass, ResponseHead

# No text stream has a line near this; one without line ends must not fill memory.
MAX_LINE_CHARACTERS = 8 * 1024 * 1024

_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")


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
