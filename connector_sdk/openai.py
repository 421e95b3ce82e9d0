"""Chat completions of the OpenAI API, and of servers that speak it, through the daemon.

with OpenAIConnector("https://api.openai.com/v1", api_key) as openai:
    for text in openai.chat_completion_stream(ChatCompletionRequest("gpt-4o-mini", [Message("user", "Hello")])):
        ...

``AsyncOpenAIConnector`` is the same for tasks.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING

from .chat import ChatChunk, ChatDelta, ToolCallDelta, Usage
from .chat_answer import END_GRACE_MS, MAX_REST_BYTES, ChatAnswer, whole_chunk
from .chat_request import (
    DEFAULT_BASE_URL,
    DEFAULT_TIMEOUT_MS,
    TEST_MODEL,
    ChatCompletionRequest,
    ChatEndpoint,
    Message,
    tiny_request,
)
from .client import RuntimeClient
from .config import RuntimeConfig
from .errors import ConnectorException
from .streaming import StreamedResponse

if TYPE_CHECKING:
    from .async_openai import AsyncChatStream, AsyncOpenAIConnector

__all__ = [
    "AsyncChatStream",
    "AsyncOpenAIConnector",
    "ChatChunk",
    "ChatCompletionRequest",
    "ChatDelta",
    "Message",
    "OpenAIConnector",
    "ToolCallDelta",
    "Usage",
]


class OpenAIConnector:
    """Chat completions over a client of its own. Safe to share between threads.

    Args:
        base_url: of the API, with or without "/v1" at its end.
        api_key: sent as bearer token, and never part of a message; None or "": no Authorization header.
        config: how to reach the daemon; None: everything by default and from the environment.
        timeout_ms: for one completion, from its request to its last byte.

    Attributes:
        last_usage: the tokens of the completion or stream that ended last, of all that run at once; None when the
            API told none, or it did not come to its end.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        api_key: str | None = None,
        *,
        config: RuntimeConfig | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> None:
        self._endpoint = ChatEndpoint(base_url, api_key, timeout_ms)
        self._client = RuntimeClient(config)
        self.last_usage: Usage | None = None

    def __enter__(self) -> OpenAIConnector:
        self._client.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client; later calls raise."""
        self._client.close()

    def test_connection(self, model: str = TEST_MODEL) -> str:
        """Ask for a tiny completion and return its text.

        Raises:
            ConnectorException: as ``chat_completion``.
        """
        return self.chat_completion(tiny_request(model))

    def chat_completion(self, request: ChatCompletionRequest) -> str:
        """The text of the completion; "" when the model answered without any.

        Raises:
            APIError: the API answered with an error.
            ConnectorException: the API could not be reached, or its answer is no chat completion.
        """
        usage = None
        try:
            with self._endpoint.key_hidden():
                response = self._client.execute_http(self._endpoint.http_request(request, is_stream=False))
                chunk = whole_chunk(response.status_code, response.body, response.request_id)
                usage = chunk.usage
                return chunk.delta.content or ""
        finally:
            self.last_usage = usage

    def chat_completion_stream(self, request: ChatCompletionRequest) -> Generator[str, None, None]:
        """The texts of the completion as they come; the request goes out with the first ``next()``.

        Closing the iterator, or leaving a loop over it, cancels the completion at the API.

        Raises:
            APIError: the API answered with an error, or reported one inside the stream.
            StreamError: the stream broke off inside an event, or is no chat stream.
            ConnectorException: the API could not be reached, or the connection to it broke off.
        """
        with contextlib.closing(self.stream_chunks(request)) as chunks:
            for chunk in chunks:
                if chunk.delta.content:
                    yield chunk.delta.content

    def stream_chunks(self, request: ChatCompletionRequest) -> Generator[ChatChunk, None, None]:
        """The chunks of the completion as they come, tool calls, finish reason and usage among them.

        A server that knows no streams gives one chunk. Otherwise as ``chat_completion_stream``.
        """
        usage = None
        try:
            with self._endpoint.key_hidden():
                http_request = self._endpoint.http_request(request, is_stream=True)
                with self._client.stream_http(http_request) as response:
                    for chunk in _chunks(response):
                        usage = chunk.usage or usage
                        yield chunk
                    _end(response)
        finally:
            self.last_usage = usage


def _chunks(response: StreamedResponse) -> Generator[ChatChunk, None, None]:
    answer = ChatAnswer(response.status_code, response.headers, response.request_id)
    for piece in itertools.chain(response.iter_bytes(), [b""]):
        yield from answer.feed(piece)
        if answer.is_complete:
            return


def _end(response: StreamedResponse) -> None:
    """Wait for the end of the response, briefly (see END_GRACE_MS)."""
    response.end_within(END_GRACE_MS)
    rest_bytes = 0
    with contextlib.suppress(ConnectorException):  # the completion is there, however its stream ends
        for piece in response.iter_bytes():
            rest_bytes += len(piece)
            if rest_bytes > MAX_REST_BYTES:
                return


def __getattr__(name: str) -> object:
    """The async connector on first use: who does not use it does not load anyio."""
    if name in ("AsyncChatStream", "AsyncOpenAIConnector"):
        from . import async_openai

        return getattr(async_openai, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
