"""The request of Anthropic's ``POST /v1/messages``: the fields that the simulator reads, checked as the API does.

Source: Anthropic API reference, "Messages" and "Count Message tokens". Threads are refused, as the API refuses them
where it cannot have one; other fields are accepted and have no effect.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import msgspec

from .api_error import ApiError
from .reply import MAX_STOPS, MAX_TOOLS, Asked, Tool, ToolUse
from .request import MAX_MODEL_CHARS, Message, parse_as
from .unread import explained

# On this code a client sends the whole conversation again, without a thread.
THREAD_UNSUPPORTED = "thread_unsupported_request"

Role = Literal["user", "assistant", "system"]
T = TypeVar("T", bound="CountRequest")

_KINDS = (
    (r"tools\[\d+\]\.type", "of tools the simulator offers the model those of type custom"),
    (r"tool_choice\.type", "the types are auto, any, tool and none"),
    (r".*content\[\d+\]\.content\[\d+\]\.type", "in a tool_result the simulator reads text"),
    (
        r".*content\[\d+\]\.type",
        "of content the simulator reads text, tool_use and tool_result and passes over thinking and redacted_thinking",
    ),
    (r"output_config\.format\.type|output_format\.type", "the format is json_schema"),
)
_TOOL_USE: dict[str, ToolUse] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: Annotated[str, msgspec.Meta(min_length=1)]


class ToolUseBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """The model called a tool."""

    id: str
    name: str
    input: msgspec.Raw  # its form does not matter, and so not its depth

    def __post_init__(self) -> None:
        if not bytes(self.input).lstrip().startswith(b"{"):
            raise ValueError("The `input` of a tool_use is not an object")

    @property
    def text(self) -> str:
        return f"{self.name} {bytes(self.input).decode()}"


class ToolResult(msgspec.Struct, frozen=True, tag_field="type", tag="tool_result"):
    """What the tool returned."""

    tool_use_id: str
    content: str | list[Text] | None = None
    is_error: bool | None = None

    @property
    def text(self) -> str:
        return _text(self.content)


class Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model thought: passed over, as the API takes it out of earlier turns."""

    thinking: str
    signature: str
    text: ClassVar[str] = ""


class RedactedThinking(msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking"):
    """The same, which only the API can read."""

    data: str
    text: ClassVar[str] = ""


Block = Text | ToolUseBlock | ToolResult | Thinking | RedactedThinking

_BLOCKS: dict[Role, tuple[type[Block], ...]] = {
    "user": (Text, ToolResult),
    "assistant": (Text, ToolUseBlock, Thinking, RedactedThinking),
    "system": (Text,),
}


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation. Several of one role may follow each other; the system's is never the first."""

    role: Role
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [Text(self.content)] if isinstance(self.content, str) else self.content

    @property
    def calls(self) -> set[str]:
        return {block.id for block in self.blocks if isinstance(block, ToolUseBlock)}

    @property
    def results(self) -> set[str]:
        return {block.tool_use_id for block in self.blocks if isinstance(block, ToolResult)}

    def messages(self) -> Iterator[Message]:
        """The same as messages of a chat, in which a tool's result is one of its own."""
        said = []
        for block in self.blocks:
            if isinstance(block, ToolResult):
                yield Message("tool", block.text)
            else:
                said.append(block.text)
        if said or not self.results:
            yield Message(self.role, "".join(said))


class CustomTool(msgspec.Struct, frozen=True):
    """A tool that the application runs; the API's own tools are refused."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}\Z")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None

    def __post_init__(self) -> None:
        if self.type == "tool" and self.name is None:
            raise ValueError("A tool_choice of type tool needs `name`")


class SchemaFormat(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    format: SchemaFormat | None = None


class CountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the number of tokens; null is the same as absent in the optional fields."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    messages: Annotated[list[Turn], msgspec.Meta(min_length=1)]
    system: str | list[Text] | None = None
    tools: Annotated[list[CustomTool], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: SchemaFormat | None = None  # its name in an older beta
    thread: Any = None

    @property
    def asked(self) -> Asked:
        choice = self.tool_choice or ToolChoice("auto")
        form = (self.output_config.format if self.output_config else None) or self.output_format
        return Asked(
            messages=list(self._conversation()),
            tools=[Tool(tool.name, tool.input_schema, tool.description or "") for tool in self.tools or ()],
            tool_use=_TOOL_USE[choice.type],
            callable_tools=[choice.name] if choice.type == "tool" and choice.name is not None else None,
            schema=form.schema if form else None,
        )

    def _conversation(self) -> Iterator[Message]:
        if self.system is not None:
            yield Message("system", _text(self.system))
        for turn in self.messages:
            yield from turn.messages()


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """A request for a message."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stream: bool | None = None
    stop_sequences: (
        Annotated[list[Annotated[str, msgspec.Meta(min_length=1)]], msgspec.Meta(max_length=MAX_STOPS)] | None
    ) = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None

    @property
    def asked(self) -> Asked:
        return msgspec.structs.replace(super().asked, token_limit=self.max_tokens, stop=self.stop_sequences or ())


def parse(body: bytes) -> MessagesRequest:
    """The request for a message in ``body``.

    Raises:
        ApiError: status 400, naming the field that is wrong, or that the body is not JSON.
    """
    return _parse_as(MessagesRequest, body)


def parse_count(body: bytes) -> CountRequest:
    """The request for a count in ``body``; raises as ``parse``."""
    return _parse_as(CountRequest, body)


def _parse_as(kind: type[T], body: bytes) -> T:
    try:
        request = parse_as(kind, body, get_args(Role))
    except ApiError as error:
        raise explained(error, _KINDS) from error
    if request.thread is not None:
        raise ApiError(
            400,
            "thread: the simulator keeps no threads, send the whole conversation without it.",
            param="thread",
            code=THREAD_UNSUPPORTED,
        )
    _check_turns(request.messages)
    _check_tools(request)
    return request


def _check_turns(turns: list[Turn]) -> None:
    """Content everywhere but in a last word of the model's to go on from; every call has its result right after it."""
    if turns[0].role == "system":
        raise ApiError(
            400,
            "messages.0: use the top-level 'system' parameter for what holds from the start.",
            param="messages[0].role",
        )
    open_calls: set[str] = set()
    for index, turn in enumerate(turns):
        is_last = index == len(turns) - 1
        if not turn.content and not (is_last and turn.role == "assistant"):
            raise ApiError(
                400,
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant "
                "message.",
                param=f"messages[{index}].content",
            )
        if not all(isinstance(block, _BLOCKS[turn.role]) for block in turn.blocks):
            raise ApiError(
                400,
                f"messages.{index}: `tool_use` and `thinking` blocks are the assistant's and `tool_result` blocks the "
                "user's.",
                param=f"messages[{index}].content",
            )
        if unasked := sorted(turn.results - open_calls):
            raise ApiError(
                400,
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {unasked[0][:64]}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
                param=f"messages[{index}].content",
            )
        if unanswered := sorted(open_calls - turn.results):
            raise _without_result(index - 1, unanswered[0])
        open_calls = turn.calls
    if open_calls:
        raise _without_result(len(turns) - 1, sorted(open_calls)[0])


def _without_result(index: int, call: str) -> ApiError:
    return ApiError(
        400,
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {call[:64]}.",
        param=f"messages[{index}].content",
    )


def _check_tools(request: CountRequest) -> None:
    names = [tool.name for tool in request.tools or ()]
    if len(set(names)) < len(names):
        raise ApiError(400, "tools: Tool names must be unique.", param="tools")
    choice = request.tool_choice
    if choice is None:
        return
    if not names:
        raise ApiError(400, "tool_choice may only be specified while providing tools.", param="tool_choice")
    if choice.type == "tool" and choice.name not in names:
        raise ApiError(400, f"Tool {(choice.name or '')[:64]!r} not found in provided tools.", param="tool_choice.name")


def _text(content: str | list[Text] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or ())
