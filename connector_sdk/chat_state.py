"""What both conversations share: the history and its rules. No I/O but files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .chat_history import AnyMessage, ChatHistory, CountTokens, checked
from .chat_request import ChatCompletionRequest, Message, RequestDefaults
from .chat_turn import Turn
from .config import check_type, invalid
from .conversation_file import Saved, load, save
from .errors import ConnectorException
from .token_estimate import estimated_tokens
from .wire.messages import ErrorClass

Connector = TypeVar("Connector")


class ConversationState(Generic[Connector]):
    """See the module, and ``Conversation``."""

    def __init__(
        self,
        connector: Connector,
        model: str | None = None,
        *,
        system: str | None = None,
        max_history_tokens: int | None = None,
        count_tokens: CountTokens = estimated_tokens,
        max_tokens: int | None = None,
        temperature: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        check_type("max_history_tokens", max_history_tokens, int, type(None))
        if max_history_tokens is not None and max_history_tokens < 1:
            raise invalid("max_history_tokens", max_history_tokens, "a number from 1")
        check_type("extra", extra, Mapping, type(None))
        self._connector = connector
        self._defaults = RequestDefaults(model=model, max_tokens=max_tokens, temperature=temperature)
        self._extra = None if extra is None else dict(extra)
        self._model = model
        self._system = _system(system)
        self._history = ChatHistory(count_tokens, max_history_tokens)
        # Held while an answer comes; whoever lets go of it may be another thread, or the collector of garbage.
        self._busy = threading.Lock()

    @property
    def messages(self) -> list[AnyMessage]:
        """Copies of all messages, oldest first, the system message among them. Those with tool calls, and tools'
        results, are dicts in the API's own form."""
        return [*self._system_messages(), *self._history.messages]

    @property
    def model(self) -> str | None:
        """What answers; None: what the connector has."""
        return self._model

    @model.setter
    def model(self, model: str | None) -> None:
        with self._idle():
            self._model = RequestDefaults(model=model).model

    @property
    def system(self) -> str | None:
        """What the model is told before everything else; None: nothing."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        with self._idle():
            self._system = _system(text)

    def add(self, message: AnyMessage) -> None:
        """Put a message at the end, such as a tool's result: ``{"role": "tool", "tool_call_id": …, "content": …}``.

        Raises:
            ConnectorException: INVALID_REQUEST, it can be no message, or an answer is on its way.
            TypeError: neither a Message nor a dict.
        """
        with self._idle():
            self._history.append(message)

    def reset(self) -> None:
        """Forget all but the system message.

        Raises:
            ConnectorException: INVALID_REQUEST, an answer is on its way.
        """
        with self._idle():
            self._history.replace([])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write system, model and messages to a JSON file, mode 0600, whole or not at all; nothing else is in it.

        Raises:
            ConnectorException: INVALID_REQUEST, it cannot be written, or an answer is on its way.
        """
        with self._idle():
            save(path, Saved(self._model, self._system, self._history.messages))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that was saved: its messages, its system message, and its model if it names one.

        Raises:
            ConnectorException: INVALID_REQUEST, naming the file and what is wrong with it, and nothing has changed;
                or an answer is on its way.
        """
        with self._idle():
            saved = load(path)
            self._history.replace(saved.messages)
            self._system = saved.system
            self._model = saved.model or self._model

    def _begin(self, text: str | None) -> Turn:
        """The request for an answer; the conversation takes nothing else until the turn is finished.

        Raises:
            ConnectorException: INVALID_REQUEST, an answer is on its way, the question is too long, or a tool's result
                is missing.
            TypeError: the question is no text.
        """
        check_type("the question", text, str, type(None))
        self._take()
        try:
            question = None if text is None else Message("user", text)
            self._check_order(question)
            system = self._system_messages()
            fitting = self._history.fitting(question, system[0] if system else None)
            request = ChatCompletionRequest(
                self._model,
                [*system, *fitting.messages],
                max_tokens=self._defaults.max_tokens,
                temperature=self._defaults.temperature,
                extra=self._extra,
            )
        except BaseException:
            self._busy.release()
            raise

        def keep(answer: AnyMessage | None) -> None:
            try:
                if answer is not None:
                    self._history = fitting
                    fitting.keep(answer)
            finally:
                self._busy.release()

        return Turn(request, keep)

    def _check_order(self, question: Message | None) -> None:
        messages = self._history.messages
        if question is None and not messages:
            raise ConnectorException("there is nothing to answer: ask a question", ErrorClass.INVALID_REQUEST)
        missing: dict[str, None] = {}
        for message in messages:
            if isinstance(message, dict):
                for call in message.get("tool_calls") or ():
                    missing[call["id"]] = None
                missing.pop(str(message.get("tool_call_id")), None)
        if missing:
            ids = ", ".join(missing)[:200]
            raise ConnectorException(
                f"the last answer calls tools whose results are missing ({ids}); add them: "
                'add({"role": "tool", "tool_call_id": …, "content": …})',
                ErrorClass.INVALID_REQUEST,
            )

    def _system_messages(self) -> list[AnyMessage]:
        return [] if self._system is None else [Message("system", self._system)]

    def _take(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise ConnectorException(
                "an answer of this conversation is on its way; read it to its end, or close it, and use one "
                "conversation in one thread or task at a time",
                ErrorClass.INVALID_REQUEST,
            )

    @contextmanager
    def _idle(self) -> Iterator[None]:
        self._take()
        try:
            yield
        finally:
            self._busy.release()


def _system(text: str | None) -> str | None:
    if text is None:
        return None
    checked(Message("system", text))
    return text or None
