"""The request of a chat completion: the fields that the simulator reads, checked as the API checks them.

Source: OpenAI API reference, "Create chat completion". Fields that would change the answer in a way that the simulator
does not know are refused; others are accepted and have no effect.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec

from .api_error import ApiError
from .chat_tools import AllowedChoice, CallMade, FunctionChoice, FunctionTool, Name
from .reply import MAX_TOOLS, Asked, Tool, ToolUse
from .request import MAX_MODEL_CHARS, Message, Role, parse_as
from .strict_schema import why_not_strict
from .unread import explained, refuse_unread

# Each is sent in full.
MAX_CHOICES = 8
MAX_STOPS = 4

_KINDS = (
    (r"messages\[\d+\]\.content\[\d+\]\.type", "of content the simulator reads parts of type text and refusal"),
    (r"tools\[\d+\]\.type", "the simulator offers the model tools of type function"),
    (r"tool_choice\.type", "the types are function and allowed_tools"),
    (r"tool_choice\.allowed_tools\.tools\[\d+\]\.type", "of tools the simulator calls those of type function"),
    (r"response_format\.type", "the formats are text, json_object and json_schema"),
)

_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_Limit = Annotated[int, msgspec.Meta(ge=1)]
_Stop = Annotated[str, msgspec.Meta(min_length=1)]


class ChatMessage(Message, frozen=True):
    """One message: an assistant's may have calls, and a tool's answers one of them."""

    tool_calls: list[CallMade] | None = None
    tool_call_id: str | None = None

    @property
    def said(self) -> Message:
        """The same in no API's own form, the calls as text."""
        calls = "".join(f"{call.function.name} {call.function.arguments}" for call in self.tool_calls or ())
        return Message(self.role, self.text + calls)


class TextFormat(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    pass


class JsonFormat(msgspec.Struct, frozen=True, tag_field="type", tag="json_object"):
    pass


class NamedSchema(msgspec.Struct, frozen=True):
    name: Name
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class SchemaFormat(msgspec.Struct, frozen=True, tag_field="type", tag="json_schema"):
    json_schema: NamedSchema


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat completion request; null is the same as absent in the optional fields."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Limit | None = None
    max_completion_tokens: _Limit | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | Annotated[list[_Stop], msgspec.Meta(max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    tools: Annotated[list[FunctionTool], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedChoice | None = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    parallel_tool_calls: bool | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None

    @property
    def token_limit(self) -> int | None:
        """``max_completion_tokens``, or the older name of the same field."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def names_tool(self) -> bool:
        """Whether a certain tool must be called."""
        return isinstance(self.tool_choice, FunctionChoice)

    @property
    def asked(self) -> Asked:
        tool_use, callable_tools = self.choice
        return Asked(
            messages=[message.said for message in self.messages],
            token_limit=self.token_limit,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop or (),
            tools=[
                Tool(tool.function.name, tool.function.parameters or {}, tool.function.description or "")
                for tool in self.tools or ()
            ],
            tool_use=tool_use,
            callable_tools=callable_tools,
            schema=self._schema,
        )

    @property
    def choice(self) -> tuple[ToolUse, Sequence[str] | None]:
        """How tools are used, and the names of those that may be called where not all may."""
        match self.tool_choice:
            case FunctionChoice(function=function):
                return "required", [function.name]
            case AllowedChoice(allowed_tools=allowed):
                return allowed.mode, [tool.function.name for tool in allowed.tools]
            case choice:
                return choice or "auto", None

    @property
    def _schema(self) -> dict[str, Any] | None:
        match self.response_format:
            case SchemaFormat(json_schema=named):
                return named.schema or {}
            case JsonFormat():
                return {}
            case _:
                return None


class _DeploymentRequest(ChatRequest, frozen=True, kw_only=True):
    """The same to a deployment, which stands for its model."""

    model: Annotated[str, msgspec.Meta(max_length=MAX_MODEL_CHARS)] | None = None  # type: ignore[assignment]


def parse(body: bytes) -> ChatRequest:
    """The chat completion request in ``body``.

    Raises:
        ApiError: status 400, naming the field that is wrong, or that the body is not JSON.
    """
    return _parse_as(ChatRequest, body)


def parse_for_deployment(body: bytes, deployment: str) -> ChatRequest:
    """The same; the model is the deployment where the body has none. Raises as ``parse``."""
    request = _parse_as(_DeploymentRequest, body)
    return msgspec.structs.replace(request, model=request.model or deployment)


def _parse_as(kind: type[ChatRequest], body: bytes) -> ChatRequest:
    try:
        request = parse_as(kind, body, get_args(Role))
    except ApiError as error:
        raise explained(error, _KINDS) from error
    _check_unread(request)
    _check_combinations(request)
    _check_strict(request)
    _check_calls(request.messages)
    return request


def _check_unread(request: ChatRequest) -> None:
    refuse_unread("functions", request.functions, "send tools")
    refuse_unread("function_call", request.function_call, "send tool_choice")
    refuse_unread("logprobs", request.logprobs)
    refuse_unread("top_logprobs", request.top_logprobs)
    refuse_unread("modalities", request.modalities and request.modalities != ["text"], "it answers with text")
    refuse_unread("audio", request.audio, "it answers with text")


def _check_strict(request: ChatRequest) -> None:
    for index, tool in enumerate(request.tools or ()):
        function = tool.function
        if function.strict and function.parameters is not None and (wrong := why_not_strict(function.parameters)):
            raise ApiError(
                400,
                f"Invalid schema for function {function.name!r}: {wrong}.",
                param=f"tools[{index}].function.parameters",
                code="invalid_function_parameters",
            )
    form = request.response_format
    if isinstance(form, SchemaFormat) and form.json_schema.strict:
        named = form.json_schema
        if wrong := why_not_strict(named.schema or {}):
            raise ApiError(400, f"Invalid schema for response_format {named.name!r}: {wrong}.", param="response_format")


def _check_combinations(request: ChatRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if request.stop == "":
        raise ApiError(400, "Invalid request body: 'stop' is an empty text.", param="stop")
    names = {tool.function.name for tool in request.tools or ()}
    if len(names) < len(request.tools or ()):
        raise ApiError(400, "Tool names must be unique.", param="tools")
    choice = request.tool_choice
    if choice is not None and choice != "none" and not names:
        raise ApiError(400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    for name in request.choice[1] or ():
        if name not in names:
            raise ApiError(400, f"Tool choice {name[:64]!r} not found in 'tools' parameter.", param="tool_choice")
    if isinstance(request.response_format, JsonFormat) and not any(
        "json" in message.text.lower() for message in request.messages
    ):
        raise ApiError(
            400,
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )


def _check_calls(messages: list[ChatMessage]) -> None:
    """Every call is answered right after it, and nothing else is."""
    missing: dict[str, None] = {}
    called: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None:
                param = f"messages[{index}].tool_call_id"
                raise ApiError(400, f"Missing required parameter: {param!r}.", param=param)
            if message.tool_call_id not in called:
                raise ApiError(
                    400,
                    "Messages with role 'tool' must be a response to a preceding message with 'tool_calls' that has "
                    f"their 'tool_call_id'; {message.tool_call_id[:64]!r} is in none.",
                    param=f"messages[{index}].role",
                )
            missing.pop(message.tool_call_id, None)
        else:
            _check_missing(missing, index)
            missing = {call.id: None for call in message.tool_calls or ()}
            called = set(missing)
    _check_missing(missing, len(messages))


def _check_missing(missing: dict[str, None], index: int) -> None:
    if missing:
        raise ApiError(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. These did not have response messages: {', '.join(list(missing)[:5])[:100]}.",
            param=f"messages[{index}].role",
        )
