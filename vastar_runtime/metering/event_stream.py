"""The body of a streamed answer: the data lines of server-sent events (HTML Standard, section 9.2.5), cut anywhere.

Only these lines are looked for. No API spreads its JSON over several of them, so that the empty line which ends an
event says nothing.
"""

from __future__ import annotations

import copy

from .events import read_event
from .tally import Tally

# The longest events repeat the whole request, at a response's start and end. One that is longer yet is not read.
MAX_LINE_BYTES = 1024 * 1024
# Shorter data says nothing: [DONE], {"type":"ping"}, what else keeps connections alive.
MIN_EVENT_BYTES = 24
# To find that an event is void, short or no JSON, costs more than to send it. A stream of so many is not read on.
MAX_VOID_EVENTS = 5_000

_CR = 0x0D  # a number is looked for eight times as fast as b"\r"
_DATA = b"data:"
_NEXT_DATA = b"\ndata:"


class EventStream:
    """Reads one stream."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._line = bytearray()  # as far as the last one came
        self._is_too_long = False  # only its beginning is kept
        self._void_events = 0

    def feed(self, piece: bytes) -> None:
        """Read the next piece."""
        if self._void_events >= MAX_VOID_EVENTS:
            return
        if _CR in piece:
            piece = piece.replace(b"\r", b"\n")  # of a CRLF remains an empty line more, which says nothing
        at = 0
        if self._line:
            at = piece.find(b"\n") + 1
            self._keep(piece[: at - 1] if at else piece)
            if not at:
                return
            self._end_line()
        if not piece.startswith(_DATA, at):
            found = piece.find(_NEXT_DATA, at)
            if found < 0:
                self._keep(piece[max(at, piece.rfind(b"\n") + 1) :])
                return
            at = found + 1
        self._read_lines(piece, at + len(_DATA))

    def tally(self) -> Tally:
        """As if the stream ended here: the last line may lack its end."""
        ended = copy.copy(self)
        ended._tally = copy.copy(self._tally)
        ended._line = self._line.copy()
        ended._end_line()
        return ended._tally

    def _read_lines(self, piece: bytes, at: int) -> None:
        """Read the data lines of a piece from ``at``, where the data of one begins."""
        while self._void_events < MAX_VOID_EVENTS:
            end = piece.find(b"\n", at)
            if end < 0:
                self._keep(piece[at - len(_DATA) :])
                return
            self._read_data(piece[at:end])
            found = piece.find(_NEXT_DATA, end)
            if found < 0:
                if not piece.endswith(b"\n"):
                    self._keep(piece[piece.rfind(b"\n") + 1 :])
                return
            at = found + len(_NEXT_DATA)

    def _read_data(self, data: bytes) -> None:
        if len(data) > MAX_LINE_BYTES:
            self._tally.add_unread()
        elif len(data) < MIN_EVENT_BYTES or not read_event(data, self._tally):
            self._void_events += 1

    def _keep(self, part: bytes) -> None:
        if self._is_too_long:
            return
        if len(self._line) + len(part) <= MAX_LINE_BYTES + len(_DATA):
            self._line += part
        else:
            self._is_too_long = True
            self._line += part[: len(_DATA)]
            del self._line[len(_DATA) :]

    def _end_line(self) -> None:
        if self._line.startswith(_DATA) and self._void_events < MAX_VOID_EVENTS:
            if self._is_too_long:
                self._tally.add_unread()
            else:
                self._read_data(bytes(self._line[len(_DATA) :]))
        self._line.clear()
        self._is_too_long = False
