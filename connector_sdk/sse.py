"""Event streams by the WHATWG rules, incrementally and without I/O, and on them the chat streams of the OpenAI API.

Source: HTML Standard, section 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .errors import APIError, StreamError
from .wire.messages import ErrorClass

# No API sends an event near this (images in a stream come in parts); a stream without line ends must not fill memory.
MAX_EVENT_BYTES = 8 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_END_OF_CHAT = "[DONE]"


@dataclass(frozen=True)
class ServerSentEvent:
    """One event.

    Attributes:
        data: the data lines, joined with LF.
        event: its type; "message" when the stream gave none.
        id: the last event id that the stream gave, in this event or before; "" for none.
    """

    data: str
    event: str = "message"
    id: str = ""


class SSEDecoder:
    """Turns the bytes of an event stream, cut anywhere, into events.

    Attributes:
        retry_ms: the reconnection time that the stream asked for last, in milliseconds; None when it did not.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._is_first_line = True
        self._ended_in_cr = False
        self._data: list[str] = []
        self._data_bytes = 0
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that ``data`` completes.

        Raises:
            StreamError: PERMANENT, an event exceeds the limit; the stream cannot go on.
        """
        if not data:
            return []
        if self._ended_in_cr and data.startswith(b"\n"):
            data = data[1:]  # the second half of a CRLF that was cut
        self._ended_in_cr = data.endswith(b"\r")
        events = []
        for piece in data.splitlines(keepends=True):  # of bytes: at LF, CR and CRLF only
            self._line += piece
            if self._data_bytes + len(self._line) > self._max_event_bytes:
                raise StreamError(
                    f"an event of the stream exceeds the limit of {self._max_event_bytes} bytes", ErrorClass.PERMANENT
                )
            if piece.endswith((b"\n", b"\r")):
                event = self._end_line()
                if event is not None:
                    events.append(event)
        return events

    @property
    def is_mid_event(self) -> bool:
        """True when an event has begun and its empty line has not come: a stream that ends here was cut."""
        line = self._line.removeprefix(_BOM) if self._is_first_line else self._line
        return bool(self._data or self._event or (line and not line.startswith(b":")))

    def flush(self) -> ServerSentEvent | None:
        """At the end of the stream: the data that came of the event it was cut in; None when there is none.

        The standard drops such an event; only who knows what its data must look like can tell whether it is whole.
        """
        if self._line:
            self._end_line()
        return self._take_event() if self._data else None

    def _end_line(self) -> ServerSentEvent | None:
        line = bytes(self._line.rstrip(b"\r\n"))
        self._line.clear()
        if self._is_first_line:
            line = line.removeprefix(_BOM)
            self._is_first_line = False
        if not line:
            event = self._take_event() if self._data else None
            self._event = ""
            return event
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode(errors="replace")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(line) + 1
        elif name == b"event":
            self._event = value
        elif name == b"id" and "\0" not in value:
            self._id = value
        elif name == b"retry" and value.isascii() and value.isdigit() and len(value) < 16:
            self.retry_ms = int(value)
        return None

    def _take_event(self) -> ServerSentEvent:
        event = ServerSentEvent("\n".join(self._data), self._event or "message", self._id)
        self._data.clear()
        self._data_bytes = 0
        self._event = ""
        return event


def chat_object(data: str) -> dict[str, Any] | None:
    """The JSON object of one chunk of a chat stream.

    Args:
        data: the data of one event.

    Returns:
        None for ``[DONE]``, and for data that is empty.

    Raises:
        APIError: the chunk is ``{"error": ...}``; its status is 200.
        StreamError: PERMANENT, the data is no JSON object.
    """
    if data.strip() in ("", _END_OF_CHAT):
        return None
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StreamError(f"a chunk of the stream is no JSON: {_shortened(data)}", ErrorClass.PERMANENT) from error
    if not isinstance(chunk, dict):
        raise StreamError(f"a chunk of the stream is no JSON object: {_shortened(data)}", ErrorClass.PERMANENT)
    if chunk.get("error") is not None:
        raise APIError.from_error_object(chunk["error"], 200)
    return chunk


def chat_content(data: str) -> str | None:
    """The text that one chunk of a chat stream adds.

    Args:
        data: the data of one event.

    Returns:
        ``choices[0].delta.content``; None for ``[DONE]`` and for a chunk without text (role, tool calls, usage).

    Raises:
        APIError, StreamError: as ``chat_object``.
    """
    chunk = chat_object(data)
    return None if chunk is None else _content(chunk)


class ChatStreamDecoder:
    """Turns the bytes of a chat stream, cut anywhere, into the JSON objects of its chunks.

    Attributes:
        is_ended: ``[DONE]`` came, or the stream's end: nothing more is to be fed.
    """

    def __init__(self) -> None:
        self.is_ended = False
        self._events = SSEDecoder()
        self._is_begun = False

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The chunks that a piece completes; b"" is the end of the stream. To be read out before the next piece.

        An iterator, since the chunks before an error are good.

        Raises:
            APIError: the API reports an error inside the stream.
            StreamError: TRANSIENT, the stream broke off inside an event; PERMANENT, it is no chat stream.
        """
        if not piece:
            self.is_ended = True
            self._check_end()
        for event in self._events.feed(piece):
            self._is_begun = True
            if event.data.strip() == _END_OF_CHAT:
                self.is_ended = True
                return
            chunk = chat_object(event.data)
            if chunk is not None:
                yield chunk

    def _check_end(self) -> None:
        if self._events.is_mid_event:
            rest = self._events.flush()
            if rest is None or rest.data.strip() != _END_OF_CHAT:  # some servers leave out the empty line after it
                raise StreamError("the stream broke off inside an event", ErrorClass.TRANSIENT)
        elif not self._is_begun:
            raise StreamError("the answer holds no event; see whether the URL is that of the API", ErrorClass.PERMANENT)


class SSEParser:
    """Reads chat streams that are there as text, whole or one chunk at a time.

    Text that was collected by someone else may have lost its last line ends, so a last event without them counts.
    """

    @staticmethod
    def parse_stream(sse_data: str) -> str:
        """All texts of the stream, up to ``[DONE]`` or its end, joined.

        Raises:
            APIError, StreamError: as ``chat_content``.
        """
        return "".join(SSEParser.parse_stream_generator(sse_data))

    @staticmethod
    def parse_stream_generator(sse_data: str) -> Iterator[str]:
        """The texts of the stream one by one, up to ``[DONE]`` or its end.

        Raises:
            APIError, StreamError: as ``chat_content``.
        """
        for event in SSEDecoder().feed(sse_data.encode(errors="replace") + b"\n\n"):
            if event.data.strip() == _END_OF_CHAT:
                return
            text = chat_content(event.data)
            if text is not None:
                yield text

    @staticmethod
    def parse_chunk(sse_chunk: str) -> str | None:
        """The text of one chunk, given as its ``data:`` line or as the JSON alone.

        Returns:
            None for ``[DONE]``, comments, empty lines and a chunk without text.

        Raises:
            APIError, StreamError: as ``chat_content``.
        """
        if sse_chunk.lstrip().startswith("{"):
            return chat_content(sse_chunk)
        return SSEParser.parse_stream(sse_chunk) or None


def _content(chunk: dict[str, Any]) -> str | None:
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) and content else None


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
