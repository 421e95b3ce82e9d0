"""The messages of a conversation, in turns, and what fits of them into a budget of tokens. No I/O.

A turn is a question and all that followed it: the answer, and where that called tools, the calls, their results and
what was said to those. System messages are of no turn.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

from .chat_request import Message
from .config import check_type
from .errors import ConnectorException
from .token_estimate import estimated_tokens
from .wire.messages import ErrorClass

ROLES = ("system", "developer", "user", "assistant", "tool")
_SYSTEM = frozenset({"system", "developer"})

# The API's own form of each message, its role and its marks; what the documentation of tokenizers says of OpenAI's.
TOKENS_PER_MESSAGE = 4
# An image or another file: the largest that Anthropic takes as it is, and about OpenAI's most.
TOKENS_PER_FILE = 1_600

AnyMessage = Message | dict[str, Any]
CountTokens = Callable[[str], int]


class ChatHistory:
    """See the module. What it takes and gives are copies.

    Args:
        count_tokens: of a text.
        max_tokens: for ``fitting``; None: everything fits.
    """

    def __init__(self, count_tokens: CountTokens, max_tokens: int | None) -> None:
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._messages: list[_Counted] = []

    @property
    def messages(self) -> list[AnyMessage]:
        """All of them, oldest first."""
        return [_copied(item.message) for item in self._messages]

    def replace(self, messages: Iterable[AnyMessage]) -> None:
        """Begin anew with these, which are checked as by ``checked``."""
        self._messages = [self._counted(message) for message in messages]

    def append(self, message: AnyMessage) -> None:
        """One more, at the end."""
        self._messages.append(self._counted(message))

    def keep(self, answer: AnyMessage) -> None:
        """An answer that came, at the end: it stays, and where ``count_tokens`` raises over it, it is estimated.

        Raises:
            BaseException: Ctrl-C, and what else is no Exception, once the answer is there.
        """
        item = None
        try:
            with contextlib.suppress(Exception):  # some tokenizers refuse texts that models write
                item = self._counted(answer)
        finally:
            self._messages.append(item or ChatHistory(estimated_tokens, self._max_tokens)._counted(answer))

    def fitting(self, question: AnyMessage | None, system: AnyMessage | None = None) -> ChatHistory:
        """This history with a question at its end, without as many of its oldest turns as are too many.

        Args:
            question: None: the last turn goes on.
            system: what is to be sent before it, and takes of the budget.

        Raises:
            ConnectorException: INVALID_REQUEST, the last turn alone, with the system messages, is too long.
        """
        fitted = ChatHistory(self._count_tokens, self._max_tokens)
        fitted._messages = [*self._messages, *([] if question is None else [self._counted(question)])]
        if self._max_tokens is not None:
            fitted._trim(self._max_tokens, 0 if system is None else self._counted(system).tokens)
        return fitted

    def _trim(self, max_tokens: int, system_tokens: int) -> None:
        turns: list[list[_Counted]] = [[]]  # the first is what stands before any question
        for item in self._messages:
            if item.role == "user":
                turns.append([])
            if item.role not in _SYSTEM:
                turns[-1].append(item)
        system_tokens += sum(item.tokens for item in self._messages if item.role in _SYSTEM)
        sizes = [sum(item.tokens for item in turn) for turn in turns]
        total = system_tokens + sum(sizes)
        dropped = 0
        while total > max_tokens and dropped < len(turns) - 1:
            total -= sizes[dropped]
            dropped += 1
        if total > max_tokens:
            with_system = f" and the system message ({system_tokens})" if system_tokens else ""
            raise ConnectorException(
                f"the question ({sizes[-1]} tokens, about){with_system} exceeds max_history_tokens of {max_tokens}; "
                "ask for less at once, or raise it",
                ErrorClass.INVALID_REQUEST,
            )
        gone = {id(item) for turn in turns[:dropped] for item in turn}
        self._messages = [item for item in self._messages if id(item) not in gone]

    def _counted(self, message: AnyMessage) -> _Counted:
        message = checked(message)
        if self._max_tokens is None:
            return _Counted(message, 0)
        tokens = TOKENS_PER_MESSAGE
        for text in _texts(message):
            tokens += TOKENS_PER_FILE if text is None else self._count_tokens(text)
        return _Counted(message, tokens)


@dataclasses.dataclass(frozen=True, eq=False)
class _Counted:
    message: AnyMessage
    tokens: int

    @property
    def role(self) -> str:
        return str(self.message["role"] if isinstance(self.message, dict) else self.message.role)


def checked(message: object) -> AnyMessage:
    """A copy of a message, if it can be one: a Message, or a dict in the API's own form.

    Raises:
        ConnectorException: INVALID_REQUEST, saying what is wrong with it.
        TypeError: it is neither.
    """
    check_type("a message", message, Message, dict)
    assert isinstance(message, (Message, dict))
    fields = message if isinstance(message, dict) else {"role": message.role, "content": message.content}
    role, content = fields.get("role"), fields.get("content")
    if role not in ROLES:
        found = "it has no role" if role is None else "its role is no text"
        found = f"its role is {role[:64]!r}" if isinstance(role, str) else found
        raise _invalid(f"{found}; known: {', '.join(ROLES)}")
    if isinstance(message, Message):
        is_usable = isinstance(content, str)
    else:
        is_usable = isinstance(content, (str, list)) or (content is None and bool(fields.get("tool_calls")))
    if not is_usable:
        raise _invalid("its content is no text")
    if not _are_tool_calls(fields.get("tool_calls")):
        raise _invalid("its tool_calls are no list of objects with ids")
    if role == "tool" and not isinstance(fields.get("tool_call_id"), str):
        raise _invalid("it is a tool's result without a tool_call_id")
    return _copied(message)


def _are_tool_calls(calls: object) -> bool:
    if calls is None:
        return True
    return isinstance(calls, list) and all(isinstance(call, dict) and isinstance(call.get("id"), str) for call in calls)


def _copied(message: AnyMessage) -> AnyMessage:
    try:
        return copy.deepcopy(message) if isinstance(message, dict) else dataclasses.replace(message)
    except RecursionError as error:
        raise _invalid("it is nested too deeply") from error


def _texts(message: AnyMessage) -> list[str | None]:
    """What of a message counts; None stands for a file."""
    if isinstance(message, Message):
        return [message.content]
    content = message.get("content")
    texts: list[str | None] = [content] if isinstance(content, str) else []
    for part in content if isinstance(content, list) else ():
        text = part.get("text") if isinstance(part, dict) else None
        texts.append(text if isinstance(text, str) else None)
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    if rest:
        try:
            texts.append(json.dumps(rest, ensure_ascii=False))
        except (ValueError, TypeError, RecursionError) as error:
            raise _invalid(f"it cannot be sent: {error}") from error
    return texts


def _invalid(reason: str) -> ConnectorException:
    return ConnectorException(f"a message cannot be used: {reason}", ErrorClass.INVALID_REQUEST)
