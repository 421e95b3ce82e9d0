"""What a model is asked and what it replies, in no API's own form.

Each API's module turns its request into an ``Asked``, and the ``Reply`` into its objects and events.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from .request import Message

# Each is looked for in the whole text. No API takes more.
MAX_STOPS = 64

MAX_TOOLS = 128

ToolUse = Literal["auto", "none", "required"]


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call.

    Attributes:
        parameters: the JSON Schema of its arguments; {} when it takes none.
        description: what it is for; "" when that is not said.
    """

    name: str
    parameters: dict[str, Any]
    description: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """The model calls a function.

    Attributes:
        arguments: a JSON object, as text, that the tool's schema allows.
    """

    name: str
    arguments: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to continue, which its API has checked: no more is refused of it than a schema.

    Attributes:
        messages: oldest first, instructions among them.
        token_limit: of the answer, at least 1; None for none.
        stop: the answer ends before the first of these; MAX_STOPS at most.
        tools: those that are offered; MAX_TOOLS at most.
        tool_use: "required" when one must be called, of one or more; "none" when none may.
        callable_tools: the names of those of them that may be called, one at least; None when all may.
        schema: the JSON Schema that the answer's text must have, as JSON; {} for any JSON object; None for plain text.
    """

    messages: Sequence[Message]
    token_limit: int | None = None
    stop: Sequence[str] = ()
    tools: Sequence[Tool] = ()
    tool_use: ToolUse = "auto"
    callable_tools: Sequence[str] | None = None
    schema: dict[str, Any] | None = None

    @property
    def may_need_sample(self) -> bool:
        """Whether the reply may be made of a schema, which takes longer than to choose a text."""
        return bool(self.tools) or bool(self.schema)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        text: "" when tools are called.
        is_cut: ``token_limit`` ended it.
        stopped_at: the one of ``stop`` that ended it; None when none did.
        prompt_tokens: of all messages, and of the tools that are offered.
        completion_tokens: of the text and the calls.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    is_cut: bool = False
    stopped_at: str | None = None
    prompt_tokens: int
    completion_tokens: int
