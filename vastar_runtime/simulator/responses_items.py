"""The items of the input of ``POST /v1/responses``.

Source: OpenAI API reference, "Create a model response".
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from .api_error import ApiError
from .request import Message

Role = Literal["user", "assistant", "system", "developer"]


class InputText(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    text: str


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class ReasoningText(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Of an item of type reasoning only, which is passed over."""

    text: str


class SummaryText(msgspec.Struct, frozen=True):
    type: Literal["summary_text"]
    text: str


Content = str | list[InputText | OutputText | Refusal]


class Item(msgspec.Struct, frozen=True):
    """One item of the input: a message, a function call of the model, what the function returned, or reasoning.

    Not a union of these, because a message may come without its ``type``.
    """

    type: Literal["message", "function_call", "function_call_output", "item_reference", "reasoning"] | None = None
    id: str | None = None
    role: Role | None = None
    content: str | list[InputText | OutputText | Refusal | ReasoningText] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None
    summary: list[SummaryText] | None = None

    def __post_init__(self) -> None:
        needed: tuple[str, ...]
        match self.type:
            case "function_call":
                needed = ("call_id", "name", "arguments")
            case "function_call_output":
                needed = ("call_id", "output")
            case "item_reference":
                needed = ("id",)
            case "reasoning":
                needed = ("summary",)
            case None if self.id is not None and self.role is None:
                needed = ()  # the short form of an item_reference
            case _:
                needed = ("role", "content")
        for field in needed:
            if getattr(self, field) is None:
                raise ValueError(f"An item of type {self.type or 'message'} needs `{field}`")
        if self.type != "reasoning" and any(isinstance(part, ReasoningText) for part in self.content or ()):
            raise ValueError(f"An item of type {self.type or 'message'} has no part of type reasoning_text")

    @property
    def is_reference(self) -> bool:
        return self.type == "item_reference" or (self.type is None and self.role is None)

    @property
    def message(self) -> Message:
        """The same as a message of a chat."""
        if self.type == "function_call":
            return Message("assistant", f"{self.name} {self.arguments}")
        if self.type == "function_call_output":
            return Message("tool", _text(self.output))
        return Message(self.role or "user", _text(self.content))


def check_calls(items: list[Item]) -> None:
    """Every call needs what it returned, and only calls return something.

    Raises:
        ApiError: status 400.
    """
    called: set[str] = set()
    returned: set[str] = set()
    for index, item in enumerate(items):
        if item.is_reference:
            raise ApiError(
                400,
                f"Item with id {(item.id or '')[:64]!r} not found: the simulator keeps no items, send the item itself.",
                param=f"input[{index}].id",
            )
        call_id = item.call_id or ""
        if item.type == "function_call":
            called.add(call_id)
        elif item.type == "function_call_output":
            if call_id not in called:
                raise ApiError(
                    400, f"No tool call found for function call output with call_id {call_id[:64]}.", param="input"
                )
            returned.add(call_id)
    if missing := sorted(called - returned):
        raise ApiError(400, f"No tool output found for function call {missing[0][:64]}.", param="input")


def _text(content: str | Sequence[InputText | OutputText | Refusal | ReasoningText] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or ())
