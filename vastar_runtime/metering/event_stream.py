"""The body of a streamed answer: the data lines of server-sent events (HTML Standard, section 9.2.5), cut anywhere.

Only these lines are looked for. No API spreads its JSON over several of them, so that the empty line which ends an
event says nothing.
"""

from __future__ import annotations

import copy

from .events import read_event
from .tally import Tally
from .whole_body import WholeBody

# The longest events repeat the whole request, at a response's start and end. Of one that is longer yet only the ends
# are looked at.
MAX_LINE_BYTES = 1024 * 1024
# Shorter data says nothing: [DONE], {"type":"ping"}, what else keeps connections alive.
MIN_EVENT_BYTES = 24
# To find that an event is void, short or no JSON, costs more than to send it. A stream of so many is not read on, and
# what follows counts by its size.
MAX_VOID_EVENTS = 5_000
# Of one piece so many events are read, which takes 3 ms, and so many bytes of them. More come together only where a
# whole stream was compressed. Of what follows, but for the last events, which tell the usage, the size counts.
MAX_EVENTS_OF_A_PIECE = 2_000
MAX_READ_BYTES_OF_A_PIECE = 512 * 1024
LAST_BYTES_OF_A_PIECE = 8 * 1024

_CR = 0x0D  # a number is looked for eight times as fast as b"\r"
_CR_TO_LF = bytes.maketrans(b"\r", b"\n")  # as fast however many there are
_DATA = b"data:"
_NEXT_DATA = b"\ndata:"


class EventStream:
    """Reads one stream."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._line = bytearray()  # as far as the last one came
        self._is_too_long = False  # only its beginning is kept
        self._long: WholeBody | None = None  # one that is too long, if it is data
        self._void_events = 0

    def feed(self, piece: bytes) -> None:
        """Read the next piece."""
        if self._void_events >= MAX_VOID_EVENTS:
            self._tally.add_unread_bytes(len(piece))
            return
        if _CR in piece:
            piece = piece.translate(_CR_TO_LF)  # of a CRLF remains an empty line more, which says nothing
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
        at = self._read_lines(piece, at + len(_DATA))
        if at:
            self._skip(piece, at)

    def tally(self) -> Tally:
        """As if the stream ended here: the last line may lack its end."""
        ended = copy.copy(self)
        ended._tally = copy.copy(self._tally)
        ended._line = self._line.copy()
        ended._end_line()
        return ended._tally

    def _read_lines(self, piece: bytes, at: int) -> int:
        """Read the data lines of a piece from ``at``, where the data of one begins, as many as are read of a piece.

        Returns:
            Where the data begins that was not read; 0: it all was.
        """
        begin = at
        left = MAX_EVENTS_OF_A_PIECE
        while True:
            end = piece.find(b"\n", at)
            if end < 0:
                self._keep(piece[at - len(_DATA) :])
                return 0
            self._read_data(piece[at:end])
            found = piece.find(_NEXT_DATA, end)
            if found < 0:
                if not piece.endswith(b"\n"):
                    self._keep(piece[piece.rfind(b"\n") + 1 :])
                return 0
            at = found + len(_NEXT_DATA)
            left -= 1
            if not left or at - begin > MAX_READ_BYTES_OF_A_PIECE or self._void_events >= MAX_VOID_EVENTS:
                return at

    def _skip(self, piece: bytes, at: int) -> None:
        """Count the data from ``at`` on by its size, but for the last lines."""
        at -= len(_NEXT_DATA)
        found = piece.find(_NEXT_DATA, max(at, len(piece) - LAST_BYTES_OF_A_PIECE))
        last = found + 1 if found >= 0 else piece.rfind(b"\n", at) + 1 or len(piece)
        if self._void_events >= MAX_VOID_EVENTS:
            last = len(piece)
        self._tally.add_unread_bytes(max(0, last - at - 1))
        if piece.startswith(_DATA, last):
            self._read_lines(piece, last + len(_DATA))
        else:
            self._keep(piece[last:])

    def _read_data(self, data: bytes) -> None:
        if len(data) > MAX_LINE_BYTES:
            long = WholeBody()
            long.feed(data)
            long.search(self._tally)
        elif len(data) < MIN_EVENT_BYTES or not read_event(data, self._tally):
            self._void_events += 1

    def _keep(self, part: bytes) -> None:
        if self._is_too_long:
            if self._long is not None:
                self._long.feed(part)
        elif len(self._line) + len(part) <= MAX_LINE_BYTES + len(_DATA):
            self._line += part
        else:
            self._is_too_long = True
            self._line += part
            if self._line.startswith(_DATA):
                self._long = WholeBody()
                self._long.feed(bytes(self._line[len(_DATA) :]))
            del self._line[len(_DATA) :]

    def _end_line(self) -> None:
        if self._line.startswith(_DATA) and self._void_events < MAX_VOID_EVENTS:
            if self._long is not None:
                self._long.search(self._tally)
            else:
                self._read_data(bytes(self._line[len(_DATA) :]))
        self._line.clear()
        self._is_too_long = False
        self._long = None
