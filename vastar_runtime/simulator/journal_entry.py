"""What is kept of one request."""

import base64
import codecs
import sys
import time
from typing import Any, Literal

import trio
from starlette.types import Scope

from .fault_injection import STATE_KEY as FAULT

# A conversation that a test would read; the size of the whole body is kept as well.
MAX_BODY_BYTES = 16 * 1024

# What an entry takes besides its texts.
_OWN_BYTES = 1024

# "closed": the simulator closed the connection before the end of an answer.
Ended = Literal["running", "complete", "client left", "reset", "closed"]


class Entry:
    """A request, and what became of it so far.

    Attributes:
        number: it is the request with this number since the start, from 1.
        path: decoded, without the query.
        status: what was answered; None: nothing yet, or no HTTP.
        bytes_sent: of the answer's body.
        size: bytes that the entry itself holds, about.
        is_forgotten: it is no longer in the journal.
    """

    def __init__(self, scope: Scope, number: int) -> None:
        self.number = number
        self._time_ms = time.time_ns() // 1_000_000
        self._began_at = trio.current_time()
        self._method: str = scope["method"]
        self.path: str = scope["path"]
        self._query: str = scope["query_string"].decode("latin-1")
        # As one text: a head of thousands of short ones would take twenty times its length. No line break is in any.
        self._headers: bytes = b"\n".join(part for header in scope["headers"] for part in header)
        self._body = b""
        self._body_bytes = 0
        # Where the fault will be put, if there is one. The connection is there as well: not to be kept.
        self._state: dict[str, Any] = scope["state"]
        self._fault: str | None = None
        self._duration_ms: float | None = None
        self.status: int | None = None
        self.ended: Ended = "running"
        self.bytes_sent = 0
        self.size = _OWN_BYTES + sum(map(sys.getsizeof, (self.path, self._query, self._headers)))
        self.is_forgotten = False

    def add_body(self, data: bytes) -> int:
        """Keeps the next piece of the request's body, as far as there is room; returns how many bytes of it."""
        kept = data[: MAX_BODY_BYTES - len(self._body)]
        self._body += kept
        self._body_bytes += len(data)
        self.size += len(kept)
        return len(kept)

    def end(self, how: Ended) -> None:
        self.ended = how
        self._duration_ms = self._elapsed_ms()
        self._fault, self._state = self._state.get(FAULT), {}

    def as_json(self) -> dict[str, Any]:
        """Its object in the list; ``body`` is text, or ``body_base64`` is there instead where it is not UTF-8."""
        is_cut = self._body_bytes > len(self._body)
        return {
            "number": self.number,
            "time": self._time_ms,
            "method": self._method,
            "path": self.path,
            "query": self._query,
            "headers": _pairs(self._headers.decode("latin-1").split("\n")),
            **_body_fields(self._body, is_cut),
            "body_bytes": self._body_bytes,
            "body_is_cut": is_cut,
            "status": self.status,
            "fault": self._state.get(FAULT, self._fault),
            "ended": self.ended,
            "bytes_sent": self.bytes_sent,
            "duration_ms": round(self._elapsed_ms() if self._duration_ms is None else self._duration_ms, 3),
        }

    def _elapsed_ms(self) -> float:
        return (trio.current_time() - self._began_at) * 1000


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    return list(zip(texts[::2], texts[1::2], strict=False))


def _body_fields(body: bytes, is_cut: bool) -> dict[str, str | None]:
    try:
        # Of a body that is cut the last character may be cut, too.
        text = codecs.getincrementaldecoder("utf-8")().decode(body, final=not is_cut)
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}
    return {"body": text, "body_base64": None}
