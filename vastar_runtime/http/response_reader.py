"""Where a response's head, pieces and end are in the bytes of an HTTP/1.1 connection. No I/O.

Nearly every response is plain: a head that comes in one read, with a Content-Length or in chunks without extensions
and trailers. Such a one is read here, in a fifth of the time that h11 takes. Whatever is not plain, in any way, is
h11's from that place on: it is the judge of everything unusual, and of what is no HTTP at all. Tests hold both
against each other, byte by byte.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import h11

from .h11_responses import H11Response
from .plain_head import plain_head
from .response import (
    END,
    MAX_EVENTS_PER_TURN,
    MAX_HEADER_BLOCK_BYTES,
    NEED_DATA,
    Event,
    ResponseHead,
    Signal,
)

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,20}")
_MAX_SIZE_LINE_BYTES = 22

# What the body is made of; _HEAD: it has not begun.
_HEAD, _LENGTH, _CHUNKS, _OVER = range(4)


class ResponseReader:
    """The responses on one connection, each after its request.

    Use: ``begin`` for each request, ``receive_data`` with what arrives, b"" for the end of the connection, and
    ``next_event`` until it returns NEED_DATA or END.
    """

    def __init__(self) -> None:
        self._h11: H11Response | None = None
        self._begin("GET", False, b"")

    def begin(self, method: str, closes: bool) -> None:
        """A request was sent.

        Args:
            closes: it says "Connection: close".
        """
        self._begin(method, closes, b"")

    def _begin(self, method: str, closes: bool, data: bytes) -> None:
        self._method = method
        self._request_closes = self._closes = closes
        self._h11 = None
        self._data = data
        self._at = 0  # where in the data the next event begins
        self._ended = False  # no more data will come
        self._framing = _HEAD
        self._left = 0  # of the body, or of the chunk
        self._in_chunk = False  # also behind its last byte, before its line's end

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived; b"": the upstream has ended its sending."""
        if self._h11 is not None:
            self._h11.receive_data(data)
        elif not data:
            self._ended = True
        else:
            # Joined with what was left over, which is a part of a line at most. (trio's TLS streams bring bytearrays.)
            self._data, self._at = self._data[self._at :] + bytes(data), 0

    def next_event(self) -> Event:
        """What comes next: the head, pieces of the body, END; NEED_DATA while it is not there.

        Raises:
            h11.RemoteProtocolError: it is not HTTP/1.1, or it breaks off.
        """
        if self._h11 is not None:
            return self._h11.next_event()
        if self._framing == _CHUNKS:
            return self._next_of_chunks()
        if self._framing == _HEAD:
            return self._next_of_head()
        if not self._left:
            self._framing = _OVER
            return END
        piece = self._data[self._at : self._at + self._left]
        if not piece:
            return self._need_data()
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def take_whole_body(self) -> bytes | None:
        """The body, if its length was told and all of it is there: as ``next_event`` up to END. None: it is not."""
        end = self._at + self._left
        if self._framing != _LENGTH or self._h11 is not None or end > len(self._data):
            return None
        body = self._data[self._at : end]
        self._at, self._left, self._framing = end, 0, _OVER
        return body

    def take_whole(self) -> tuple[ResponseHead, bytes] | None:
        """Head and body, if the response is plain, its length was told, it is all there, and the connection may go on
        after it; else None, and ``next_event`` tells more. ``put_back`` undoes it."""
        head = self.take_head()
        if head is None:
            return None
        begin = self._at
        if self._framing == _LENGTH and not self._closes and begin + self._left == len(self._data):
            self._at, self._left, self._framing = len(self._data), 0, _OVER
            return head, self._data[begin:]
        self.put_back()
        return None

    def take_head(self) -> ResponseHead | None:
        """The head, if it is there and the response is plain; else None, and ``next_event`` tells more. ``put_back``
        undoes it."""
        if self._framing != _HEAD or self._h11 is not None:
            return None
        end = self._data.find(b"\r\n\r\n")
        head = self._plain_head(self._data[:end]) if 0 < end < MAX_HEADER_BLOCK_BYTES else None
        if head is not None:
            self._at = end + 4
        return head

    def put_back(self) -> None:
        """What ``take_whole`` or ``take_head`` brought is for ``next_event`` after all."""
        self._at, self._left, self._framing, self._closes = 0, 0, _HEAD, self._request_closes

    def forget(self) -> None:
        """Of a response that was read whole nothing is kept while the connection is idle."""
        self._data, self._at = b"", 0

    @property
    def has_more(self) -> bool:
        """Some of what has arrived was not read yet."""
        return self._h11 is not None or self._at < len(self._data)

    @property
    def may_go_on(self) -> bool:
        """The response is read whole, nothing came after it, and neither side wants the connection closed."""
        if self._h11 is not None:
            return self._h11.may_go_on
        return self._framing == _OVER and self._at == len(self._data) and not self._closes

    # --- plain responses ---

    def _next_of_head(self) -> Event:
        if not (self._data or self._ended):
            return NEED_DATA
        return self.take_head() or self._hand_over(b"")

    def _plain_head(self, block: bytes) -> ResponseHead | None:
        """The head, and what it says of the body; None when it is not for us to judge."""
        plain = plain_head(block)
        if plain is None:
            return None
        head, length, is_chunked, closes = plain
        if self._method == "HEAD" or head.status_code in (204, 304):
            self._framing = _LENGTH
        elif is_chunked and length < 0:
            self._framing = _CHUNKS
        elif length >= 0 and not is_chunked:
            self._framing, self._left = _LENGTH, length
        else:
            return None
        self._closes = self._request_closes or closes
        return head

    def _next_of_chunks(self) -> Event:
        data, at = self._data, self._at
        if at == len(data):
            return self._need_data()
        pieces: list[bytes] = []
        over = False
        while len(pieces) < MAX_EVENTS_PER_TURN:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            if self._in_chunk:
                if not data.startswith(b"\r\n", at):
                    if pieces or (len(data) - at < 2 and data[at:] in (b"", b"\r")):
                        break
                    raise h11.RemoteProtocolError(f"malformed chunk footer: {data[at : at + 2]!r}")
                at += 2
                self._in_chunk = False
            end = data.find(b"\r\n", at, at + _MAX_SIZE_LINE_BYTES)
            if end < 0:
                if not pieces and len(data) - at >= _MAX_SIZE_LINE_BYTES:
                    self._at = at
                    return self._hand_over(_CHUNKED_HEAD)
                break
            size = _chunk_size(data[at:end])
            if size > 0:
                at, self._left, self._in_chunk = end + 2, size, True
            elif size == 0 and data.startswith(b"\r\n", end + 2):
                at, over = end + 4, True
                break
            elif pieces or (size == 0 and data[end + 2 :] in (b"", b"\r")):
                break
            else:
                self._at = at
                return self._hand_over(_CHUNKED_HEAD)
        self._at = at
        if over:
            self._framing, self._left = _LENGTH, 0
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.next_event() if over else self._need_data()

    def _need_data(self) -> Signal:
        if self._ended:
            raise h11.RemoteProtocolError("peer closed connection without sending complete message body")
        return NEED_DATA

    # --- all others ---

    def _hand_over(self, head: bytes) -> Event:
        """What has not been read yet is for h11, behind ``head``, which it is to take for the response's."""
        response = H11Response(self._method, self._closes, head)
        # Its buffer may not grow by an empty read, which would be the end.
        if rest := self._data[self._at :]:
            response.receive_data(rest)
        if self._ended:
            response.receive_data(b"")
        self._data, self._at = b"", 0
        self._h11 = response
        return response.next_event()


_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@lru_cache(1024)
def _chunk_size(line: bytes) -> int:
    """-1: it is no plain chunk size."""
    return int(line, 16) if _CHUNK_SIZE.fullmatch(line) else -1
