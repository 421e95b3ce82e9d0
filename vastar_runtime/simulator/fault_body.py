"""Answers that end too early or come too slowly. Each class takes an answer's messages as ASGI's ``send`` does."""

from collections.abc import Awaitable, Callable

import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

# Pieces in a second of a slow body, at most.
_PIECES_PER_S = 20

# No event of the simulator is as long; one that is breaks off in the middle of this.
MAX_EVENT_BYTES = 1024 * 1024

_END_OF_EVENT = b"\n\n"

End = Callable[[], Awaitable[None]]


class EventCounter:
    """Finds the ends of events in a stream that arrives in any pieces."""

    def __init__(self) -> None:
        self._last = b""

    def end_of(self, number: int, data: bytes) -> tuple[int, int]:
        """How many events end in ``data``, ``number`` at most, and the place behind the last of them."""
        text = self._last + data
        count = place = 0
        while count < number and (found := text.find(_END_OF_EVENT, place)) >= 0:
            count, place = count + 1, found + len(_END_OF_EVENT)
        behind = max(place - len(self._last), 0)
        # A newline that ended an event begins no other end.
        self._last = b"\n" if text[place:].endswith(b"\n") else b""
        return count, behind


class Cut:
    """Lets through so many events of a stream, or half of a whole answer's body, and then calls ``end``."""

    def __init__(self, send: Send, events: int, end: End) -> None:
        self._send = send
        self._left = events
        self._end = end
        self._counter = EventCounter()
        self._is_stream = False
        self._bytes_left: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            self._is_stream = _is_event_stream(headers)
            self._bytes_left = _half_of(headers)
            await self._send(message)
            if self._is_stream and self._left == 0:
                await self._end()
            return
        data: bytes = message.get("body", b"")
        if self._is_stream:
            ended, place = self._counter.end_of(self._left, data)
            self._left -= ended
            is_last = self._left == 0
        else:
            place = len(data) // 2 if self._bytes_left is None else self._bytes_left
            is_last = place <= len(data)
            self._bytes_left = place - len(data)
        if not is_last:
            await self._send(message)
            return
        await self._send(_body(data[:place], more_body=True))
        await self._end()


class Truncated:
    """Lets a stream end regularly in the middle of an event, a whole answer in its middle; then calls ``end``."""

    def __init__(self, send: Send, event: int, end: End) -> None:
        """``event``: the number of the one that breaks off, from 1."""
        self._send = send
        self._whole_events_left = event - 1
        self._end = end
        self._counter = EventCounter()
        self._start: Message | None = None
        self._is_stream = False
        self._bytes_left = 0
        self._event = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            self._is_stream = _is_event_stream(headers)
            if self._is_stream:
                await self._send(message)
            else:
                self._start = message  # its Content-Length is known with the body
            return
        data: bytes = message.get("body", b"")
        if not self._is_stream:
            await self._whole(message, data)
            return
        ended, place = self._counter.end_of(self._whole_events_left, data)
        self._whole_events_left -= ended
        if self._whole_events_left:
            await self._send(message)
            return
        if place:
            await self._send(_body(data[:place], more_body=True))
        self._event += data[place:]
        is_over = len(self._event) > MAX_EVENT_BYTES or not message.get("more_body", False)
        end = self._event.find(_END_OF_EVENT)
        if end >= 0 or is_over:
            half = bytes(self._event[: (end if end >= 0 else len(self._event)) // 2])
            await self._finish(half)

    async def _whole(self, message: Message, data: bytes) -> None:
        if self._start is not None:
            headers = MutableHeaders(raw=list(self._start["headers"]))
            half = _half_of(headers)
            self._bytes_left = len(data) // 2 if half is None else half
            if half is not None:
                headers["content-length"] = str(half)
            await self._send({**self._start, "headers": headers.raw})
            self._start = None
        if len(data) < self._bytes_left and message.get("more_body", False):
            self._bytes_left -= len(data)
            await self._send(message)
        else:
            await self._finish(data[: self._bytes_left])

    async def _finish(self, data: bytes) -> None:
        await self._send(_body(data, more_body=False))
        await self._end()


class Slow:
    """Lets the body through at a pace."""

    def __init__(self, send: Send, bytes_per_s: float) -> None:
        self._send = send
        self._bytes_per_s = bytes_per_s
        self._piece_bytes = max(1, int(bytes_per_s / _PIECES_PER_S))
        self._due = 0.0

    async def __call__(self, message: Message) -> None:
        data: bytes = message.get("body", b"")
        if message["type"] != "http.response.body" or not data:
            await self._send(message)
            return
        self._due = max(self._due, trio.current_time())
        for place in range(0, len(data), self._piece_bytes):
            piece = data[place : place + self._piece_bytes]
            self._due += len(piece) / self._bytes_per_s
            await trio.sleep_until(self._due)
            is_last = place + self._piece_bytes >= len(data)
            await self._send(_body(piece, more_body=message.get("more_body", False) or not is_last))


def _body(data: bytes, *, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def _is_event_stream(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream"


def _half_of(headers: Headers) -> int | None:
    length = headers.get("content-length")
    return None if length is None else int(length) // 2
