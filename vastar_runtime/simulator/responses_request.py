"""The request of ``POST /v1/responses``: the fields that the simulator reads, checked as the API checks them.

Source: OpenAI API reference, "Create a model response". Fields that would change the answer in a way that the simulator
does not know are refused; others are accepted and have no effect. The simulator keeps no responses: what goes back to
an earlier one is refused, as the API refuses the id of one that it does not know.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec

from .api_error import ApiError
from .reply import MAX_TOOLS, Asked, Tool, ToolUse
from .request import MAX_MODEL_CHARS, Message, parse_as
from .responses_items import Item, Role, check_calls
from .strict_schema import why_not_strict
from .unread import explained, refuse_unread

# The API's own lower limit.
MIN_OUTPUT_TOKENS = 16

# What is said again in the answer.
MAX_WORD_CHARS = 512

# Of a JSON Schema: deeper than any that is written by hand, and far from where the encoder gives up.
MAX_SCHEMA_DEPTH = 64

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}\Z")]
_Word = Annotated[str, msgspec.Meta(max_length=MAX_WORD_CHARS)]

_KINDS = (
    (r"tools\[\d+\]\.type", "of tools the simulator offers the model those of type function"),
    (r"tool_choice\.type", "the simulator knows a choice of type function and of type allowed_tools"),
    (r"tool_choice\.tools\[\d+\]\.type", "of tools the simulator lets those of type function be chosen"),
    (
        r"input\[\d+\]\.type",
        "of items the simulator reads message, function_call and function_call_output and passes over reasoning",
    ),
    (r"input\[\d+\]\.\w+\[\d+\]\.type", "of content the simulator reads input_text, output_text and refusal"),
    (r"text\.format\.type", "the formats are text, json_object and json_schema"),
)


class FunctionTool(msgspec.Struct, frozen=True):
    """A tool that the application runs; the API's own tools are refused."""

    type: Literal["function"]
    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class FunctionChoice(msgspec.Struct, frozen=True, tag_field="type", tag="function"):
    name: str


class AllowedTools(msgspec.Struct, frozen=True, tag_field="type", tag="allowed_tools"):
    """Only some of the tools may be called, or one of them must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], msgspec.Meta(min_length=1, max_length=MAX_TOOLS)]


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


class Reasoning(msgspec.Struct, frozen=True):
    effort: _Word | None = None
    summary: _Word | None = None


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
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    reasoning: Reasoning | None = None
    max_tool_calls: Annotated[int, msgspec.Meta(ge=1)] | None = None
    service_tier: _Word | None = None
    safety_identifier: _Word | None = None
    prompt_cache_key: _Word | None = None

    @property
    def asked(self) -> Asked:
        tool_use, callable_tools = self.choice
        return Asked(
            messages=list(self._messages()),
            token_limit=self.max_output_tokens,
            tools=[Tool(tool.name, tool.parameters or {}, tool.description or "") for tool in self.tools or ()],
            tool_use=tool_use,
            callable_tools=callable_tools,
            schema=self._schema,
        )

    @property
    def choice(self) -> tuple[ToolUse, Sequence[str] | None]:
        """How tools are used, and the names of those that may be called where not all may."""
        match self.tool_choice:
            case FunctionChoice(name=name):
                return "required", [name]
            case AllowedTools(mode=mode, tools=tools):
                return mode, [tool.name for tool in tools]
            case choice:
                return choice or "auto", None

    def _messages(self) -> Iterator[Message]:
        if self.instructions is not None:
            # Of the role that these have in the other APIs: the same question gets the same answer.
            yield Message("system", self.instructions)
        yield from self.said

    @property
    def said(self) -> Iterator[Message]:
        """The input as messages of a chat, without the model's reasoning."""
        if isinstance(self.input, str):
            yield Message("user", self.input)
        else:
            yield from (item.message for item in self.input if item.type != "reasoning")

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
        check_calls(request.input)
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
    refuse_unread("top_logprobs", request.top_logprobs)
    refuse_unread("include", "message.output_text.logprobs" in (request.include or ()), "leave the logprobs out")


def _check_tools(request: ResponsesRequest) -> None:
    tools = request.tools or ()
    names = {tool.name for tool in tools}
    if len(names) < len(tools):
        raise ApiError(400, "Tool names must be unique.", param="tools")
    for index, tool in enumerate(tools):
        param = f"tools[{index}].parameters"
        _check_depth(tool.parameters, param)
        if tool.strict and tool.parameters is not None and (wrong := why_not_strict(tool.parameters)):
            raise ApiError(
                400,
                f"Invalid schema for function {tool.name!r}: {wrong}.",
                param=param,
                code="invalid_function_parameters",
            )
    form = request.text.format if request.text else None
    if isinstance(form, SchemaFormat):
        _check_depth(form.schema, "text.format.schema")
        if form.strict and (wrong := why_not_strict(form.schema)):
            raise ApiError(
                400,
                f"Invalid schema for response_format {form.name!r}: {wrong}.",
                param="text.format.schema",
                code="invalid_json_schema",
            )
    if isinstance(form, JsonFormat) and not any("json" in message.text.lower() for message in request.said):
        raise ApiError(
            400,
            "The input must contain the word 'json' in some form, to use 'text.format' of type 'json_object'; "
            "the instructions do not count.",
            param="input",
        )
    for name in request.choice[1] or ():
        if name not in names:
            raise ApiError(400, f"Tool choice {name[:64]!r} not found in 'tools' parameter.", param="tool_choice")
    if request.tool_choice == "required" and not tools:
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
