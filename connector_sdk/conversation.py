"""A conversation with a model: questions, answers, and what was said before.

with OpenAIConnector.from_env() as connector:
    conversation = Conversation(connector, system="Be brief.", max_history_tokens=4000)
    for text in conversation.ask("What is streaming?"):
        print(text, end="", flush=True)
    print(conversation.ask("And back-pressure?", stream=False))
    conversation.save("conversation.json")
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Literal, overload

from .chat_state import ConversationState

if TYPE_CHECKING:
    from .openai import OpenAIConnector  # noqa: F401 - named in quotes: openai imports this module


class Conversation(ConversationState["OpenAIConnector"]):
    """See the module. For one thread at a time.

    What was said stays: a question with its answer, also one that broke off or was cut short by its reader. A question
    to which nothing came is taken back, so that it can be asked again.

    Args:
        connector: an ``OpenAIConnector``; asked, and not closed.
        model: None: the connector's.
        system: what the model is told before everything else.
        max_history_tokens: at most so many, about, are sent. The oldest turns that are too many are dropped for good;
            a turn is a question and all that followed it, tools and their results too. System messages and the last
            question always stay. None: everything is sent.
        count_tokens: of a text; see ``estimated_tokens`` for what the default does, and by how much it is wrong. The
            form of each message is counted as 4, an image or another file as 1,600. An answer over which it raises
            is estimated.
        max_tokens, temperature, extra: of each request; see ``ChatCompletionRequest``.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    @overload
    def ask(self, text: str | None = None, *, stream: Literal[True] = True) -> Generator[str, None, None]: ...

    @overload
    def ask(self, text: str | None = None, *, stream: Literal[False]) -> str: ...

    @overload
    def ask(self, text: str | None = None, *, stream: bool) -> Generator[str, None, None] | str: ...

    def ask(self, text: str | None = None, *, stream: bool = True) -> Generator[str, None, None] | str:
        """Ask a question, and get the texts of the answer as they come, or with ``stream=False`` its whole text.

        The question goes out with the first ``next()``; closing the iterator, or leaving a loop over it, cancels the
        answer at the API.

        Args:
            text: None: no question, but what ``add`` has put there is to be answered, such as a tool's result.

        Raises:
            ConnectorException: as ``OpenAIConnector.chat_completion_stream``; INVALID_REQUEST, before anything is
                sent, when the question alone exceeds ``max_history_tokens``, another answer is on its way, or a
                tool's result is missing.
        """
        return self._ask_streaming(text) if stream else self._ask_whole(text)

    def _ask_streaming(self, text: str | None) -> Generator[str, None, None]:
        turn = self._begin(text)
        try:
            with contextlib.closing(self._connector.stream_chunks(turn.request)) as chunks:
                for chunk in chunks:
                    turn.feed(chunk)
                    if chunk.delta.content:
                        yield chunk.delta.content
        finally:
            turn.finish()

    def _ask_whole(self, text: str | None) -> str:
        turn = self._begin(text)
        try:
            turn.feed(self._connector.complete(turn.request))
            return turn.text
        finally:
            turn.finish()
