"""Chat completions of the OpenAI API, and of servers that speak it, through the daemon.

with OpenAIConnector("https://api.openai.com/v1", api_key) as openai:
    for text in openai.chat_completion_stream(ChatCompletionRequest("gpt-4o-mini", [Message("user", "Hello")])):
        ...

``Conversation`` keeps what was said, ``UsageTracker`` what it cost. ``AsyncOpenAIConnector`` and ``AsyncConversation``
are the same for tasks.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING

from .azure import AzureDeployment
from .chat import ChatChunk, ChatDelta, ToolCallDelta, Usage
from .chat_answer import END_GRACE_MS, MAX_REST_BYTES, ChatAnswer, whole_chunk
from .chat_connector import ChatConnector, ConnectorOptions
from .chat_request import ChatCompletionRequest, Message
from .chat_retry import RetryClock
from .client import RuntimeClient
from .config import RuntimeConfig
from .conversation import Conversation
from .errors import ConnectorException
from .models import HTTPRequest
from .streaming import StreamedResponse
from .token_estimate import estimated_tokens
from .usage_tracker import Price, UsageTracker, load_prices

if TYPE_CHECKING:
    from .async_conversation import AsyncAnswer, AsyncConversation
    from .async_openai import AsyncChatStream, AsyncOpenAIConnector

__all__ = [
    "AsyncAnswer",
    "AsyncChatStream",
    "AsyncConversation",
    "AsyncOpenAIConnector",
    "AzureDeployment",
    "ChatChunk",
    "ChatCompletionRequest",
    "ChatDelta",
    "ConnectorOptions",
    "Conversation",
    "Message",
    "OpenAIConnector",
    "Price",
    "RetryClock",
    "ToolCallDelta",
    "Usage",
    "UsageTracker",
    "estimated_tokens",
    "load_prices",
]


class OpenAIConnector(ChatConnector):
    """Chat completions over a client of its own. Safe to share between threads.

    ``from_env``, ``from_config`` and ``azure`` make one, too.

    A completion that fails with an error that may pass (``is_retryable()``, or the API's 409) is asked for again: no
    sooner than ``retry_after_ms`` of the error (``Retry-After``, and what the daemon asks for), otherwise after a
    random part of 0.5 s, 1 s, 2 s, … 8 s. It is not once a piece of a stream is there, nor when the wait does not fit
    into ``timeout_ms``, nor what the daemon itself tried more than once, nor while its circuit for the API is open. An
    API may have begun, and may charge, what it did not answer: ``max_retries=0`` never asks twice.

    Args:
        base_url: of the API, with or without "/v1" at its end.
        api_key: sent as bearer token, and never part of a message; None or "": no Authorization header.
        config: how to reach the daemon; None: everything by default and from the environment.
        timeout_ms: for one completion, from its request to its last byte, retries and waits included.
        model, max_tokens, temperature: for requests that leave them out; None: the API's default (it has none for the
            model).
        max_retries: how often at most a completion is asked for again.
        stream_buffer: about how many chunks of a stream may have come that were not read yet. When so many wait, the
            daemon reads no more, and the API has to wait, too. It is counted in bytes, 512 for each chunk, in place
            of ``config.stream_window_bytes``; what the daemon and the system's sockets hold on the way comes on top.
        usage_tracker: is told of every completion that came, whole or its beginning.
        azure_deployment: ``base_url`` is that of an Azure resource.
        retry_clock: time for retries.
        on_retry: is called before each wait, with the error and the seconds; what it raises ends the completion.

    Attributes:
        last_usage: the tokens of the completion or stream that ended last, of all that run at once; None when the
            API told none, or it did not come to its end.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    _client: RuntimeClient

    def _connect_to(self, config: RuntimeConfig) -> None:
        self._client = RuntimeClient(config)

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

    def test_connection(self, model: str | None = None) -> str:
        """Ask for a tiny completion and return its text.

        Args:
            model: None: the connector's, else "gpt-4o-mini".

        Raises:
            ConnectorException: as ``chat_completion``.
        """
        return self.chat_completion(self._test_request(model))

    def chat_completion(self, request: ChatCompletionRequest) -> str:
        """The text of the completion; "" when the model answered without any.

        Raises:
            APIError: the API answered with an error.
            ConnectorException: the API could not be reached, or its answer is no chat completion.
        """
        return self.complete(request).delta.content or ""

    def complete(self, request: ChatCompletionRequest) -> ChatChunk:
        """The completion as one chunk: its text, tool calls, finish reason and usage.

        Raises:
            ConnectorException: as ``chat_completion``.
        """
        usage = None
        try:
            with self._endpoint.key_hidden():
                chunk = self._complete(self._endpoint.http_request(request, is_stream=False))
                usage = chunk.usage
                self._count(request, chunk.model, usage)
                return chunk
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
        usage = model = None
        has_come = False
        try:
            with self._endpoint.key_hidden():
                http_request = self._endpoint.http_request(request, is_stream=True)
                with contextlib.closing(self._stream(http_request)) as chunks:
                    for chunk in chunks:
                        has_come = True
                        usage, model = chunk.usage or usage, chunk.model or model
                        yield chunk
        finally:
            self.last_usage = usage
            if has_come:
                self._count(request, model, usage)

    def _complete(self, request: HTTPRequest) -> ChatChunk:
        tries = self._tries()
        while True:
            try:
                response = self._client.execute_http(request.with_timeout(tries.timeout_ms))
                return whole_chunk(response.status_code, response.headers, response.body, response.request_id)
            except ConnectorException as error:
                wait_s = tries.wait_s(error)
                if wait_s is None:
                    raise
            self._retry_clock.sleep(wait_s)

    def _stream(self, request: HTTPRequest) -> Generator[ChatChunk, None, None]:
        tries = self._tries()
        has_come = False
        while True:
            try:
                with self._client.stream_http(request.with_timeout(tries.timeout_ms)) as response:
                    for chunk in _chunks(response):
                        has_come = True
                        yield chunk
                    _end(response)
                    return
            except ConnectorException as error:
                wait_s = None if has_come else tries.wait_s(error)
                if wait_s is None:
                    raise
            self._retry_clock.sleep(wait_s)


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
    """What is async, on first use: who does not use it does not load anyio."""
    if name in ("AsyncChatStream", "AsyncOpenAIConnector"):
        from . import async_openai

        return getattr(async_openai, name)
    if name in ("AsyncAnswer", "AsyncConversation"):
        from . import async_conversation

        return getattr(async_conversation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
