"""A response as h11 reads it: the judge of everything unusual, and of what is no HTTP at all."""

from __future__ import annotations

import h11

from .response import (
    END,
    INTERIM,
    MAX_EVENTS_PER_TURN,
    MAX_HEADER_BLOCK_BYTES,
    MAX_PIECE_BYTES,
    NEED_DATA,
    OTHER,
    Event,
    ResponseHead,
)


class H11Response:
    """One response, or what is left of it. Use: as ResponseReader.

    Args:
        method: of the request.
        closes: the request, or what was read of the response already, says "Connection: close".
        head: what stands in for a head that was read already; b"": none was.
    """

    def __init__(self, method: str, closes: bool, head: bytes = b"") -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BLOCK_BYTES)
        headers = [("host", "h"), *([("connection", "close")] if closes else [])]
        self._h11.send(h11.Request(method=method, target="/", headers=headers))
        self._h11.send(h11.EndOfMessage())
        if head:
            self._h11.receive_data(head)
            self._h11.next_event()
        self._ahead: object = None  # the next event, if it has been met

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived; b"": the upstream has ended its sending."""
        self._h11.receive_data(data)

    @property
    def may_go_on(self) -> bool:
        """See ResponseReader."""
        return self._h11.their_state is h11.DONE and not self._h11.trailing_data[0]

    def next_event(self) -> Event:
        """See ResponseReader."""
        event, self._ahead = self._ahead, None
        if event is None:
            event = self._h11.next_event()
        if isinstance(event, h11.RemoteProtocolError):
            raise event
        if isinstance(event, h11.Data):
            return self._joined(event)
        if isinstance(event, h11.Response):
            return ResponseHead(event.status_code, tuple((bytes(n), bytes(v)) for n, v in event.headers))
        if isinstance(event, h11.InformationalResponse):
            return INTERIM
        if isinstance(event, h11.EndOfMessage):
            return END
        return NEED_DATA if event is h11.NEED_DATA else OTHER

    def _joined(self, event: h11.Data) -> bytes:
        pieces = [event.data]
        size = len(event.data)
        while size < MAX_PIECE_BYTES and len(pieces) < MAX_EVENTS_PER_TURN:
            try:
                following: object = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                following = error
            if not isinstance(following, h11.Data):
                self._ahead = None if following is h11.NEED_DATA else following
                break
            pieces.append(following.data)
            size += len(following.data)
        return b"".join(pieces)
