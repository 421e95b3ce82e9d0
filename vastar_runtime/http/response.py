"""What a response is made of, as whoever reads it hands it on."""

from __future__ import annotations

from typing import Final

from .request import Headers

# h11's own limit is 16 KiB; some upstreams' policy and cookie headers are longer. A block of 1 MiB is an attack.
MAX_HEADER_BLOCK_BYTES = 64 * 1024
# As many as the wire's own tables take.
MAX_HEADERS = 4096
# An upstream may send a byte a chunk. What has arrived is joined into pieces, and after so many chunks others get
# their turn.
MAX_EVENTS_PER_TURN = 128
MAX_PIECE_BYTES = 65_536


class ResponseHead:
    """Status and header block of a final response; header names in lower case, in order. It is not changed: responses
    that begin with the same bytes share one, so that what follows from it is found out once."""

    __slots__ = ("_is_event_stream", "_text", "headers", "status_code")

    def __init__(self, status_code: int, headers: Headers) -> None:
        self.status_code = status_code
        self.headers = headers
        self._text: tuple[tuple[str, str], ...] | None = None
        self._is_event_stream: bool | None = None

    @property
    def text(self) -> tuple[tuple[str, str], ...]:
        """The header block as text: UTF-8, or, where a value is none, that of the past (RFC 9110, section 5.5)."""
        if self._text is None:
            self._text = tuple([(name.decode("latin-1"), _text(value)) for name, value in self.headers])
        return self._text

    @property
    def is_event_stream(self) -> bool:
        """Its body is text/event-stream."""
        if self._is_event_stream is None:
            media_type = self.value(b"content-type").partition(b";")[0]
            self._is_event_stream = media_type.strip().lower() == b"text/event-stream"
        return self._is_event_stream

    def has(self, name: bytes) -> bool:
        """Whether there is a header field of this name."""
        for header in self.headers:  # noqa: SIM110 - a generator costs as much again
            if header[0] == name:
                return True
        return False

    def value(self, name: bytes) -> bytes:
        """Of the first header field of this name; b"" when there is none."""
        for header in self.headers:
            if header[0] == name:
                return header[1]
        return b""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Signal:
    """What ``next_event`` returns beside heads and pieces."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NEED_DATA: Final = Signal("NEED_DATA")
INTERIM: Final = Signal("INTERIM")  # a response of 1xx (RFC 9110, section 15.2)
END: Final = Signal("END")  # of the response
OTHER: Final = Signal("OTHER")  # nothing that belongs to a response

Event = ResponseHead | bytes | Signal
