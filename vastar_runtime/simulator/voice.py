"""What the simulator replies: a text, a call of a tool, or JSON of a given form. The APIs give it their own shapes."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from . import answers
from .api_error import ApiError
from .json_sample import object_sample, sample
from .reply import Asked, Reply, Tool, ToolCall
from .schema_rules import SchemaError
from .sources import Source

# A tool is mentioned near the beginning or not at all.
MAX_SEARCHED_CHARS = 20_000

# A result may be a whole document; its beginning shows that it arrived.
MAX_QUOTED_CHARS = 2000

_SHORTEST_WORD = 4
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")


class Voice:
    """Replies to conversations with the texts of a source, to the same one always the same; from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def count(self, asked: Asked) -> int:
        """The tokens of all messages and of the tools that are offered, whether or not they may be called."""
        said = sum(answers.count_tokens(message.text) for message in asked.messages)
        return said + sum(_tool_tokens(tool) for tool in asked.tools)

    def reply(self, asked: Asked) -> Reply:
        """The reply.

        A tool is called when one must be, or when the last message is a user's that mentions it. After a tool's result
        the text quotes that. Otherwise it is a sample of ``asked.schema``, if there is one, or else the source's text.

        Raises:
            ApiError: status 400: a schema is none to make a sample of.
        """
        prompt_tokens = self.count(asked)
        tool = _tool_to_call(asked)
        if tool is not None:
            return _calling(asked, tool, prompt_tokens)
        text, stopped_at = _stopped(self._text(asked), asked)
        cut = text if asked.token_limit is None else answers.cut(text, asked.token_limit)
        is_cut = len(cut) < len(text)
        return Reply(
            text=cut,
            is_cut=is_cut,
            stopped_at=None if is_cut else stopped_at,
            prompt_tokens=prompt_tokens,
            completion_tokens=answers.count_tokens(cut),
        )

    def _text(self, asked: Asked) -> str:
        if asked.schema is not None:
            return self._json(asked, asked.schema)
        if results := list(_results(asked)):
            shown = (
                result if len(result) <= MAX_QUOTED_CHARS else f"{result[:MAX_QUOTED_CHARS]}…" for result in results
            )
            return "\n\n".join(f"The tool returned: {result}" for result in shown)
        return self._source.text_for(asked.messages)

    def _json(self, asked: Asked, schema: dict[str, Any]) -> str:
        try:
            value = sample(schema) if schema else {"answer": self._source.text_for(asked.messages)}
        except SchemaError as error:
            raise ApiError(400, f"Invalid schema for the answer's format: {error}.", code="invalid_schema") from error
        return msgspec.json.encode(value).decode()


def _tool_tokens(tool: Tool) -> int:
    """Of its name, its description and the words of its schema; without recursion, as a schema may be deep."""
    tokens = answers.count_tokens(tool.name) + answers.count_tokens(tool.description)
    left: list[Any] = [tool.parameters]
    while left:
        match left.pop():
            case dict() as schema:
                left += schema.keys()
                left += schema.values()
            case list() as values:
                left += values
            case value:
                tokens += answers.count_tokens(str(value))
    return tokens


def _tool_to_call(asked: Asked) -> Tool | None:
    if asked.tool_use == "none":
        return None
    allowed = asked.callable_tools
    tools = [tool for tool in asked.tools if allowed is None or tool.name in allowed]
    last = asked.messages[-1] if asked.messages else None
    best = _mentioned(last.text, tools) if last is not None and last.role == "user" else None
    return tools[0] if asked.tool_use == "required" and best is None else best


def _mentioned(text: str, tools: Sequence[Tool]) -> Tool | None:
    """The tool that is named, or else the first one with the most words of its name in the text."""
    if not tools:
        return None
    text = text[:MAX_SEARCHED_CHARS].casefold()
    # A name has no other characters, so that it is named where it is all of one of these.
    names = set(re.findall(r"[\w-]+", text))
    said = set(re.findall(r"\w+", text)) | set(re.findall(r"[^\W\d_]+", text))
    best, most = None, 0
    for tool in tools:
        if tool.name.casefold() in names:
            return tool
        words = {word.casefold() for word in _NAME_WORD.findall(tool.name) if len(word) >= _SHORTEST_WORD}
        if (count := len(words & said)) > most:
            best, most = tool, count
    return best


def _calling(asked: Asked, tool: Tool, prompt_tokens: int) -> Reply:
    try:
        arguments = object_sample(tool.parameters)
    except SchemaError as error:
        index = list(asked.tools).index(tool)
        raise ApiError(
            400,
            f"Invalid schema for function {tool.name[:64]!r}: {error}.",
            param=f"tools[{index}]",
            code="invalid_function_parameters",
        ) from error
    tokens = answers.count_tokens(tool.name) + answers.count_tokens(arguments)
    if asked.token_limit is not None and tokens > asked.token_limit:
        # Half a call would be no JSON; an API that sends one has no use for it either.
        return Reply(text="", is_cut=True, prompt_tokens=prompt_tokens, completion_tokens=asked.token_limit)
    return Reply(
        text="",
        tool_calls=(ToolCall(tool.name, arguments),),
        prompt_tokens=prompt_tokens,
        completion_tokens=tokens,
    )


def _results(asked: Asked) -> Iterator[str]:
    """What tools returned since the model last spoke; nothing when somebody else speaks last."""
    last = list(asked.messages)
    while last and last[-1].role in ("tool", "function"):
        last.pop()
    for message in asked.messages[len(last) :]:
        yield message.text


def _stopped(text: str, asked: Asked) -> tuple[str, str | None]:
    """The text before the first of the stop sequences in it, and which one that is."""
    found = [(place, stop) for stop in asked.stop if stop and (place := text.find(stop)) >= 0]
    if not found:
        return text, None
    place, stop = min(found, key=lambda item: item[0])
    return text[:place], stop
