"""A stream of server-sent events as a response."""

from collections.abc import Iterable, Iterator, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Send

from .pace import Pace, Paced


class EventStream(StreamingResponse):
    """Ends with its last event.

    StreamingResponse ends with an empty piece of its own after that. A client that leaves at the last event, as many
    do, would now and then be taken for one that did not wait for the end.
    """

    def __init__(self, events: Iterable[bytes], pace: Pace, headers: Mapping[str, str]) -> None:
        self._events = _Ahead(events)
        super().__init__(Paced(self._events, pace), headers=headers, media_type="text/event-stream")

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self.body_iterator:
            await send({"type": "http.response.body", "body": event, "more_body": not self._events.is_over})
            if self._events.is_over:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})  # there was not one event


class _Ahead(Iterator[bytes]):
    """Knows whether the piece that it gave was the last."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._next = next(self._pieces, None)

    @property
    def is_over(self) -> bool:
        return self._next is None

    def __next__(self) -> bytes:
        piece = self._next
        if piece is None:
            raise StopIteration
        self._next = next(self._pieces, None)
        return piece
