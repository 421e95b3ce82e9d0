"""What a response is made of, as whoever reads it hands it on."""

from __future__ import annotations

from typing import Final

import msgspec

from .request import Headers

# h11's own limit is 16 KiB; some upstreams' policy and cookie headers are longer. A block of 1 MiB is an attack.
MAX_HEADER_BLOCK_BYTES = 64 * 1024
# An upstream may send a byte a chunk. What has arrived is joined into pieces, and after so many chunks others get
# their turn.
MAX_EVENTS_PER_TURN = 128
MAX_PIECE_BYTES = 65_536


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and header block of a final response; header names in lower case, in order."""

    status_code: int
    headers: Headers


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
