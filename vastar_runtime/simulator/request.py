"""Requests of all APIs: a conversation's message, how bodies and numbers are read, how what is wrong is named."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from .api_error import ApiError

# A model name is repeated in every chunk.
MAX_MODEL_CHARS = 256

T = TypeVar("T")
# The API's names of what msgspec finds.
_CODES = (
    (r"Object missing required field|.* needs `\w+`$", "missing_required_parameter"),
    (r"Expected `[^`]+`, got ", "invalid_type"),
    (r"Expected `array` of length >= 1$", "empty_array"),
    (r"Invalid (enum )?value ", "invalid_value"),
)

# For half of a pair within the length of one from the end the decoder says so, as it looks for the rest there.
_CUT = "Input data was truncated"
_PAIR_BYTES = len(rb"\ud83d\ude00")
_HALF_A_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A part of a message's content; images, sound and files are refused."""

    text: str


class RefusalPart(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """What the model said instead of an answer."""

    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation; only an assistant's content may be null (it made a tool call instead)."""

    role: Role
    content: str | Annotated[list[TextPart | RefusalPart], msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"A message of role {self.role} needs `content`")
        if self.role != "assistant" and any(isinstance(part, RefusalPart) for part in self._parts):
            raise ValueError(f"A message of role {self.role} has no part of type refusal; the assistant's may")

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self._parts)

    @property
    def _parts(self) -> Sequence[TextPart | RefusalPart]:
        return self.content if isinstance(self.content, list) else ()


def parse_as(kind: type[T], body: bytes, roles: Sequence[str]) -> T:
    """The request in ``body``.

    Args:
        roles: those that its messages may have.

    Raises:
        ApiError: status 400, naming the field that is wrong, or that the body is not JSON.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), roles) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The body is not JSON: {_why_no_json(error, body)}.") from error
    except RecursionError as error:
        raise ApiError(400, "The body is JSON nested too deeply.") from error


def whole_number(text: str, least: int, most: int) -> int | None:
    """The number in ``text``, in ASCII digits; None when it is none, or not between the two."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    return int(text) if least <= int(text) <= most else None


def _why_no_json(error: Exception, body: bytes) -> str:
    if str(error) == _CUT and _HALF_A_PAIR.search(body[-_PAIR_BYTES:]):
        return "a surrogate pair near the end has no second half, or the body was cut there"
    return str(error)


def _invalid(text: str, roles: Sequence[str]) -> ApiError:
    """From msgspec's words, "cause - at `$.path`"; the path is absent when it is the body itself."""
    cause, _, place = text.rpartition(" - at `$")
    if not cause:
        cause, place = text, ""
    param = place.rstrip("`").lstrip(".")
    if missing := re.search(r"(?:required field|needs) `(\w+)`$", cause):
        param = f"{param}.{missing[1]}" if param else missing[1]
    message = f"Invalid request body: {cause}" + (f" at {param!r}" if param else "")
    if param.endswith(".role"):
        message += f"; the roles are {', '.join(roles)}"
    code = next((code for pattern, code in _CODES if re.match(pattern, cause)), None)
    return ApiError(400, f"{message}.", param=param or None, code=code)
