"""A conversation with a model, for tasks under asyncio and trio.

async with AsyncOpenAIConnector.from_env() as connector:
    conversation = AsyncConversation(connector, system="Be brief.")
    async with conversation.ask("What is streaming?") as texts:
        async for text in texts:
            print(text, end="", flush=True)
    print(await conversation.ask("And back-pressure?", stream=False))
"""

from __future__ import annotations

import weakref
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, overload

import anyio

from .async_openai import AsyncChatStream, AsyncOpenAIConnector
from .chat import ChatChunk
from .chat_state import ConversationState
from .chat_turn import Turn


class AsyncConversation(ConversationState[AsyncOpenAIConnector]):
    """As ``Conversation``, of an ``AsyncOpenAIConnector``, for one task at a time.

    ``save`` and ``load`` block for as long as a small file takes.
    """

    @overload
    def ask(self, text: str | None = None, *, stream: Literal[True] = True) -> AsyncAnswer: ...

    @overload
    def ask(self, text: str | None = None, *, stream: Literal[False]) -> Coroutine[Any, Any, str]: ...

    @overload
    def ask(self, text: str | None = None, *, stream: bool) -> AsyncAnswer | Coroutine[Any, Any, str]: ...

    def ask(self, text: str | None = None, *, stream: bool = True) -> AsyncAnswer | Coroutine[Any, Any, str]:
        """As ``Conversation.ask``: an ``AsyncAnswer``, or with ``stream=False`` the whole text, to be awaited."""
        return AsyncAnswer(self, text) if stream else self._ask_whole(text)

    async def _ask_whole(self, text: str | None) -> str:
        turn = self._begin(text)
        try:
            turn.feed(await self._connector.complete(turn.request))
            return turn.text
        finally:
            turn.finish()


class AsyncAnswer:
    """The texts of an answer as they come: an async iterator, for one reader at a time.

    ``aclose()``, from any task, leaving ``async with``, and cancelling the task that reads cancel the answer at the
    API. So does Python, when it collects one that was dropped.
    """

    def __init__(self, conversation: AsyncConversation, text: str | None) -> None:
        self._conversation = conversation
        self._text = text
        self._one_reader = anyio.ResourceGuard("reading this answer")
        self._turn: Turn | None = None
        self._chunks: AsyncChatStream[ChatChunk] | None = None
        self._is_closed = False

    def __aiter__(self) -> AsyncAnswer:
        return self

    async def __anext__(self) -> str:
        with self._one_reader:
            if self._is_closed:
                raise StopAsyncIteration
            turn, chunks = self._begun()
            try:
                async for chunk in chunks:
                    turn.feed(chunk)
                    if chunk.delta.content:
                        return chunk.delta.content
            except BaseException:
                self._close()
                raise
            self._close()
            raise StopAsyncIteration

    async def __aenter__(self) -> AsyncAnswer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """End the answer, and cancel it if it is unfinished. Never waits; closing twice is nothing."""
        self._close()

    def _begun(self) -> tuple[Turn, AsyncChatStream[ChatChunk]]:
        if self._turn is None or self._chunks is None:
            turn = self._conversation._begin(self._text)
            try:
                self._chunks = self._conversation._connector.stream_chunks(turn.request)
            except BaseException:
                turn.finish()
                raise
            self._turn = turn
            weakref.finalize(self, turn.finish).atexit = False  # what was dropped keeps nobody waiting
        return self._turn, self._chunks

    def _close(self) -> None:
        self._is_closed = True
        if self._turn is not None and self._chunks is not None:
            self._chunks._close()
            self._turn.finish()
