"""One answer of a conversation as it comes, and what the conversation keeps of it. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .chat import ChatChunk, ToolCallDelta
from .chat_history import AnyMessage
from .chat_request import ChatCompletionRequest, Message
from .errors import ConnectorException
from .wire.messages import ErrorClass

# No model answers at such length; an answer without end must not fill memory.
MAX_ANSWER_CHARACTERS = 10 * 1024 * 1024
_CHARACTERS_PER_PIECE = 64  # what the shortest takes


class Turn:
    """See the module.

    Args:
        when_finished: gets the answer; None when nothing of it came. Called once.

    Attributes:
        request: what to ask.
    """

    def __init__(self, request: ChatCompletionRequest, when_finished: Callable[[AnyMessage | None], None]) -> None:
        self.request = request
        self._when_finished = when_finished
        self._texts: list[str] = []
        self._tool_calls: dict[int, _ToolCall] = {}
        self._size = 0
        self._is_complete = False
        self._is_finished = False

    @property
    def text(self) -> str:
        """What came of it so far."""
        return "".join(self._texts)

    def feed(self, chunk: ChatChunk) -> None:
        """Take a chunk.

        Raises:
            ConnectorException: PERMANENT, the answer is longer than any.
        """
        if chunk.delta.content:
            self._texts.append(chunk.delta.content)
            self._size += len(chunk.delta.content)
        for call in chunk.delta.tool_calls:
            self._take_tool_call(call)
        self._is_complete = self._is_complete or chunk.is_whole or chunk.finish_reason is not None
        self._size += _CHARACTERS_PER_PIECE
        if self._size > MAX_ANSWER_CHARACTERS:
            raise ConnectorException(
                f"the answer has more than {MAX_ANSWER_CHARACTERS:,} characters", ErrorClass.PERMANENT
            )

    def finish(self) -> None:
        """The answer is there, or will not come: the conversation takes what there is. Twice is nothing."""
        if not self._is_finished:
            self._is_finished = True
            answer = None
            try:
                answer = self._answer()
            finally:
                self._when_finished(answer)

    def _take_tool_call(self, delta: ToolCallDelta) -> None:
        call = self._tool_calls.setdefault(delta.index, _ToolCall())
        call.id = delta.id or call.id
        call.name = delta.name or call.name
        call.arguments.append(delta.arguments or "")
        self._size += _CHARACTERS_PER_PIECE + sum(len(text or "") for text in (delta.id, delta.name, delta.arguments))

    def _answer(self) -> AnyMessage | None:
        text = _unicode(self.text)
        if self._tool_calls and self._is_complete:  # a call that was cut short is none
            calls = [self._tool_calls[index].in_api_form() for index in sorted(self._tool_calls)]
            return {"role": "assistant", "content": text or None, "tool_calls": calls}
        return Message("assistant", text) if text else None


@dataclass
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def in_api_form(self) -> dict[str, Any]:
        function = {"name": _unicode(self.name), "arguments": _unicode("".join(self.arguments))}
        return {"id": _unicode(self.id), "type": "function", "function": function}


def _unicode(text: str) -> str:
    """JSON may hold halves of characters, in two chunks perhaps; what has no other half cannot be sent again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
