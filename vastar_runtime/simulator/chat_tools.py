"""The tools of a chat completion request: those that are offered, how they may be called, and calls in the history.

Source: OpenAI API reference, "Create chat completion".
"""

from typing import Annotated, Any, Literal

import msgspec

from .reply import MAX_TOOLS

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class CallMade(msgspec.Struct, frozen=True):
    """A call in the history."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Function(msgspec.Struct, frozen=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True):
    type: Literal["function"]
    function: Function


class FunctionName(msgspec.Struct, frozen=True):
    name: str


class FunctionChoice(msgspec.Struct, frozen=True, tag_field="type", tag="function"):
    function: FunctionName


class AllowedTools(msgspec.Struct, frozen=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], msgspec.Meta(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(msgspec.Struct, frozen=True, tag_field="type", tag="allowed_tools"):
    """Only some of the tools may be called, or one of them must be."""

    allowed_tools: AllowedTools
