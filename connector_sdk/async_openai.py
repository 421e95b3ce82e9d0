"""Chat completions for tasks, on anyio: the same under asyncio and under trio.

async with AsyncOpenAIConnector("https://api.openai.com/v1", api_key) as openai:
    request = ChatCompletionRequest("gpt-4o-mini", [Message("user", "Hello")])
    async with openai.chat_completion_stream(request) as texts:
        async for text in texts:
            ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import anyio

from .async_client import AsyncRuntimeClient
from .async_streaming import AsyncStreamedResponse
from .chat import ChatChunk, Usage
from .chat_answer import END_GRACE_MS, MAX_REST_BYTES, ChatAnswer, whole_chunk
from .chat_connector import ChatConnector
from .chat_request import ChatCompletionRequest
from .chat_retry import Tries
from .config import RuntimeConfig
from .errors import ConnectorException
from .models import HTTPRequest

Item = TypeVar("Item")


class AsyncOpenAIConnector(ChatConnector):
    """As ``OpenAIConnector``, for tasks. Its completions share connections, and a cancelled task cancels its own.

    Args, Attributes, Raises: as ``OpenAIConnector``.
    """

    _client: AsyncRuntimeClient

    def _connect_to(self, config: RuntimeConfig) -> None:
        self._client = AsyncRuntimeClient(config)

    async def __aenter__(self) -> AsyncOpenAIConnector:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: completions on their way fail, later ones raise."""
        await self._client.aclose()

    async def test_connection(self, model: str | None = None) -> str:
        """As ``OpenAIConnector.test_connection``."""
        return await self.chat_completion(self._test_request(model))

    async def chat_completion(self, request: ChatCompletionRequest) -> str:
        """As ``OpenAIConnector.chat_completion``."""
        return (await self.complete(request)).delta.content or ""

    async def complete(self, request: ChatCompletionRequest) -> ChatChunk:
        """As ``OpenAIConnector.complete``."""
        usage = None
        try:
            with self._endpoint.key_hidden():
                chunk = await self._complete(self._endpoint.http_request(request, is_stream=False))
                usage = chunk.usage
                self._count(request, chunk.model, usage)
                return chunk
        finally:
            self.last_usage = usage

    def chat_completion_stream(self, request: ChatCompletionRequest) -> AsyncChatStream[str]:
        """The texts of the completion as they come; the request goes out with the first ``anext()``.

        Raises:
            ConnectorException: INVALID_REQUEST, the request cannot be sent; otherwise from the iterator, as
                ``OpenAIConnector.chat_completion_stream``.
            TypeError: the request has the wrong type.
        """
        return AsyncChatStream(self, request, lambda chunk: chunk.delta.content or None)

    def stream_chunks(self, request: ChatCompletionRequest) -> AsyncChatStream[ChatChunk]:
        """The chunks of the completion as they come, tool calls, finish reason and usage among them.

        A server that knows no streams gives one chunk. Otherwise as ``chat_completion_stream``.
        """
        return AsyncChatStream(self, request, lambda chunk: chunk)

    async def _complete(self, request: HTTPRequest) -> ChatChunk:
        tries = self._tries()
        while True:
            try:
                response = await self._client.execute_http(request.with_timeout(tries.timeout_ms))
                return whole_chunk(response.status_code, response.headers, response.body, response.request_id)
            except ConnectorException as error:
                wait_s = tries.wait_s(error)
                if wait_s is None:
                    raise
            await self._retry_clock.sleep_async(wait_s)


class AsyncChatStream(Generic[Item]):
    """One completion as it comes: an async iterator, for one reader at a time.

    ``aclose()``, from any task, leaving ``async with``, and cancelling the task that waits for the next item cancel
    the completion at the API. One that is dropped unclosed is cancelled when Python collects it.

    No generator: asyncio closes one that was dropped at some later time, and trio warns about it.
    """

    _has_come = False
    _is_closed = False

    def __init__(
        self,
        connector: AsyncOpenAIConnector,
        request: ChatCompletionRequest,
        item_of: Callable[[ChatChunk], Item | None],
    ) -> None:
        self._connector = connector
        self._request = request
        self._http_request = connector._endpoint.http_request(request, is_stream=True)
        self._tries: Tries | None = None
        self._item_of = item_of
        self._one_reader = anyio.ResourceGuard("reading this chat stream")
        self._waiting: anyio.CancelScope | None = None
        self._reading: _Reading | None = None
        self._usage: Usage | None = None
        self._model: str | None = None

    def __del__(self) -> None:
        if self._has_come and not self._is_closed:  # dropped: what came of it is counted all the same
            self._connector._count(self._request, self._model, self._usage)

    def __aiter__(self) -> AsyncChatStream[Item]:
        return self

    async def __anext__(self) -> Item:
        with self._one_reader:
            item = None
            if not self._is_closed:
                try:
                    with self._connector._endpoint.key_hidden(), anyio.CancelScope() as self._waiting:
                        item = await self._next_item()
                finally:
                    self._waiting = None
                    if item is None or self._is_closed:
                        self._close()
        if item is None or self._is_closed:
            raise StopAsyncIteration
        return item

    async def __aenter__(self) -> AsyncChatStream[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """End the stream, and cancel the completion if it is unfinished. Never waits; closing twice is nothing."""
        self._close()

    async def _next_item(self) -> Item | None:
        while (chunk := await self._next_chunk()) is not None:
            self._has_come = True
            self._usage = chunk.usage or self._usage
            self._model = chunk.model or self._model
            item = self._item_of(chunk)
            if item is not None:
                return item
        return None

    async def _next_chunk(self) -> ChatChunk | None:
        if self._tries is None:
            self._tries = self._connector._tries()
        while True:
            try:
                if self._reading is None:
                    request = self._http_request.with_timeout(self._tries.timeout_ms)
                    self._reading = _Reading(await self._connector._client.open_stream(request))
                chunk = await self._reading.next_chunk()
                if chunk is None:
                    await self._reading.end()
                return chunk
            except ConnectorException as error:
                wait_s = None if self._has_come else self._tries.wait_s(error)
                if wait_s is None:
                    raise
            if self._reading is not None:
                self._reading.response.close()
                self._reading = None
            await self._connector._retry_clock.sleep_async(wait_s)

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._connector.last_usage = self._usage
            if self._has_come:
                self._connector._count(self._request, self._model, self._usage)
            if self._waiting is not None:
                self._waiting.cancel()
        if self._reading is not None:  # it may have come since the first close
            self._reading.response.close()


class _Reading:
    """A response on its way, chunk by chunk."""

    def __init__(self, response: AsyncStreamedResponse) -> None:
        self.response = response
        self._pieces = response.aiter_bytes()
        self._answer = ChatAnswer(response.status_code, response.headers, response.request_id)
        self._chunks: Iterator[ChatChunk] = iter(())

    async def next_chunk(self) -> ChatChunk | None:
        """The next one; None at the end."""
        while (chunk := next(self._chunks, None)) is None and not self._answer.is_complete:
            self._chunks = self._answer.feed(await anext(self._pieces, b""))
        return chunk

    async def end(self) -> None:
        """Wait for the end of the response, briefly (see END_GRACE_MS)."""
        rest_bytes = 0
        with anyio.move_on_after(END_GRACE_MS / 1000):
            try:
                async for piece in self._pieces:
                    rest_bytes += len(piece)
                    if rest_bytes > MAX_REST_BYTES:
                        return
            except ConnectorException:
                return  # the completion is there, however its stream ends
