"""The request of ``POST /v1/responses``: the fields that the simulator reads, checked as the API checks them.

Source: OpenAI API reference, "Create a model response". Other fields are accepted and have no effect. The simulator
keeps no responses: what goes back to an earlier one is refused, as the API refuses the id of one that it does not know.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import msgspec

from .api_error import ApiError
from .reply import Asked, Tool
from .request import MAX_MODEL_CHARS, Message, parse_as
from .unread import explained
from .voice import MAX_TOOLS

# The API's own lower limit.
MIN_OUTPUT_TOKENS = 16

# Of a JSON Schema: deeper than any that is written by hand, and far from where the encoder gives up.
MAX_SCHEMA_DEPTH = 64

Role = Literal["user", "assistant", "system", "developer"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}\Z")]

_KINDS = (
    (r"tools\[\d+\]\.type", "of tools the simulator offers the model those of type function"),
    (r"tool_choice\.type", "of tools the simulator lets one of type function be chosen"),
    (r"input\[\d+\]\.type", "of items the simulator reads message, function_call and function_call_output"),
    (r"input\[\d+\]\.\w+\[\d+\]\.type", "of content the simulator reads input_text, output_text and refusal"),
    (r"text\.format\.type", "the formats are text, json_object and json_schema"),
)


class InputText(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    text: str


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


Content = str | list[InputText | OutputText | Refusal]


class Item(msgspec.Struct, frozen=True):
    """One item of the input: a message, a function call of the model, or what the function returned.

    Not a union of three, because a message may come without its ``type``.
    """

    type: Literal["message", "function_call", "function_call_output", "item_reference"] | None = None
    id: str | None = None
    role: Role | None = None
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None

    def __post_init__(self) -> None:
        needed: tuple[str, ...]
        match self.type:
            case "function_call":
                needed = ("call_id", "name", "arguments")
            case "function_call_output":
                needed = ("call_id", "output")
            case "item_reference":
                needed = ("id",)
            case None if self.id is not None and self.role is None:
                needed = ()  # the short form of an item_reference
            case _:
                needed = ("role", "content")
        for field in needed:
            if getattr(self, field) is None:
                raise ValueError(f"An item of type {self.type or 'message'} needs `{field}`")

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


class FunctionTool(msgspec.Struct, frozen=True):
    """A tool that the application runs; the API's own tools are refused."""

    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class FunctionChoice(msgspec.Struct, frozen=True):
    type: Literal["function"]
    name: str


class TextFormat(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    pass


class JsonFormat(msgspec.Struct, frozen=True, tag_field="type", tag="json_object"):
    pass


class SchemaFormat(msgspec.Struct, frozen=True, tag_field="type", tag="json_schema"):
    name: Name
    schema: dict[str, Any]
    strict: bool | None = None
    description: str | None = None


class TextOptions(msgspec.Struct, frozen=True):
    format: TextFormat | JsonFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(msgspec.Struct, frozen=True):
    """A request; null is the same as absent in the optional fields."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    input: Annotated[str, msgspec.Meta(min_length=1)] | Annotated[list[Item], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=MIN_OUTPUT_TOKENS)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None

    @property
    def asked(self) -> Asked:
        choice = self.tool_choice or "auto"
        chosen = choice.name if isinstance(choice, FunctionChoice) else None
        return Asked(
            messages=list(self._messages()),
            token_limit=self.max_output_tokens,
            tools=[Tool(tool.name, tool.parameters or {}) for tool in self.tools or ()],
            tool_use="required" if isinstance(choice, FunctionChoice) else choice,
            tool=chosen,
            schema=self._schema,
        )

    def _messages(self) -> Iterator[Message]:
        if self.instructions is not None:
            # Of the role that these have in the other APIs: the same question gets the same answer.
            yield Message("system", self.instructions)
        if isinstance(self.input, str):
            yield Message("user", self.input)
        else:
            yield from (item.message for item in self.input)

    @property
    def _schema(self) -> dict[str, Any] | None:
        match self.text.format if self.text else None:
            case SchemaFormat(schema=schema):
                return schema
            case JsonFormat():
                return {}
            case _:
                return None


def parse(body: bytes) -> ResponsesRequest:
    """The request in ``body``.

    Raises:
        ApiError: status 400, naming the field that is wrong, or that the body is not JSON.
    """
    try:
        request = parse_as(ResponsesRequest, body, get_args(Role))
    except ApiError as error:
        raise explained(error, _KINDS) from error
    _check_state(request)
    _check_tools(request)
    if not isinstance(request.input, str):
        _check_calls(request.input)
    return request


def _check_state(request: ResponsesRequest) -> None:
    """Refuse what needs something that is kept."""
    if (previous := request.previous_response_id) is not None:
        raise ApiError(
            400,
            f"Previous response with id {previous[:64]!r} not found: the simulator keeps no responses, send the whole "
            "conversation as input.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    for param in ("conversation", "prompt"):
        if getattr(request, param) is not None:
            raise ApiError(
                400, f"The simulator keeps nothing that {param!r} could refer to; leave it out.", param=param
            )
    if request.background:
        raise ApiError(400, "The simulator runs no response in the background; leave it out.", param="background")


def _check_tools(request: ResponsesRequest) -> None:
    tools = request.tools or ()
    for index, tool in enumerate(tools):
        _check_depth(tool.parameters, f"tools[{index}].parameters")
    if request.text is not None and isinstance(request.text.format, SchemaFormat):
        _check_depth(request.text.format.schema, "text.format.schema")
    choice = request.tool_choice
    if isinstance(choice, FunctionChoice) and choice.name not in {tool.name for tool in tools}:
        raise ApiError(400, f"Tool choice {choice.name[:64]!r} not found in 'tools' parameter.", param="tool_choice")
    if choice == "required" and not tools:
        raise ApiError(400, "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice")


def _check_depth(schema: dict[str, Any] | None, param: str) -> None:
    """A schema is sent back, so that it must not be nested as deeply as only a decoder takes it."""
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ApiError(400, f"The schema at {param!r} is nested more than {MAX_SCHEMA_DEPTH} deep.", param=param)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _check_calls(items: list[Item]) -> None:
    """Every call needs what it returned, and only calls return something."""
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


def _text(content: Content | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or ())
