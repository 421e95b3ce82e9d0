"""What the API answers to a chat completion: its chunks, or its error. No I/O: both connectors share it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .chat import ChatChunk, chat_chunk
from .error_answer import one_line
from .errors import APIError, ConnectorException
from .headers import Headers
from .retry_after import retry_after_ms
from .sse import ChatStreamDecoder
from .wire.messages import ErrorClass

# After the last chunk the end of the response is near. To wait for it saves the upstream's connection, which a
# cancel costs; a server that does not come to its end is given up after so long, or after so much.
END_GRACE_MS = 50
MAX_REST_BYTES = 64 * 1024

# An answer that is no stream is held whole.
_MAX_ANSWER_BYTES = 10 * 1024 * 1024


class ChatAnswer:
    """One answer to a request for a stream, as its bytes come: a stream, an error, or a completion in one piece.

    Attributes:
        is_complete: what still comes is of no interest.
    """

    def __init__(self, status: int, headers: Headers, request_id: int) -> None:
        self.is_complete = False
        self._status = status
        self._headers = headers
        self._request_id = request_id
        is_stream = 200 <= status < 300 and "application/json" not in headers.get("content-type", "")
        self._stream = ChatStreamDecoder() if is_stream else None
        self._body = bytearray()

    def feed(self, piece: bytes) -> Iterator[ChatChunk]:
        """The chunks that a piece of the body completes; b"" is the body's end. To be read out before the next one.

        Raises:
            APIError: the answer is an error, or the API reports one inside the stream.
            StreamError: see ``ChatStreamDecoder.feed``.
            ConnectorException: PERMANENT, the answer is no chat completion.
        """
        if self._stream is not None:
            for answer in self._stream.feed(piece):
                yield chat_chunk(answer)
            self.is_complete = self._stream.is_ended
            return
        self._body += piece
        if not piece or len(self._body) > _MAX_ANSWER_BYTES:
            self.is_complete = True
            body = bytes(self._body[:_MAX_ANSWER_BYTES])
            yield whole_chunk(self._status, self._headers, body, self._request_id)


def whole_chunk(status: int, headers: Mapping[str, str], body: bytes, request_id: int) -> ChatChunk:
    """A completion that came in one piece, as one chunk.

    Args:
        headers: of the answer; names in lower case.

    Raises:
        APIError: the answer is an error.
        ConnectorException: PERMANENT, it is no chat completion.
    """
    text = body.decode("utf-8-sig", errors="replace")
    if not 200 <= status < 300:
        error = _error_object(text, status)
        raise APIError.from_error_object(error, status, request_id, retry_after_ms=retry_after_ms(headers))
    try:
        answer = json.loads(text)
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise APIError.from_error_object(answer["error"], status, request_id)
        if not isinstance(answer["choices"][0]["message"], dict):
            raise TypeError("message is no object")
    except (ValueError, LookupError, TypeError, RecursionError) as fault:
        is_stream = text.lstrip().startswith("data:")
        todo = "it is a stream: use chat_completion_stream" if is_stream else "see whether the URL is that of the API"
        raise ConnectorException(
            f"the answer is no chat completion: {one_line(text)!r}; {todo}", ErrorClass.PERMANENT, request_id
        ) from fault
    completion: dict[str, Any] = answer
    return chat_chunk(completion, is_whole=True)


def _error_object(text: str, status: int) -> object:
    """The API's error in the body of an answer, or one made of the body when that is not in the API's form."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        if answer.get("error") is not None:
            return answer["error"]
        if "message" in answer:
            return answer
    shown = one_line(text)
    return f"the API answered with status {status}" + (f": {shown}" if shown else " and no body")
