"""What ``request`` says of an exchange beside the answer itself: ``--json`` for scripts, ``--verbose`` for people."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

import msgspec

from connector_sdk.errors import ConnectorException
from connector_sdk.headers import Headers
from connector_sdk.models import HTTPRequest
from connector_sdk.wire.framing import MAX_FRAME_BYTES
from vastar_runtime.errors import StartupError

from .exit_codes import CommandFailed, ExitCode, exit_code_of
from .printing import json_line
from .request_output import Output, head_lines

# As much as a buffered answer can have; more belongs into a file.
MAX_JSON_BODY_BYTES = MAX_FRAME_BYTES
_SECRET = re.compile(r"auth(?!or(?!i[sz]))|cookie|credential|key|passw|secret|session|signature|token")
# Of URLs: what storages and OAuth call theirs.
_SECRET_PARAMETERS = frozenset({"code", "pwd", "sig"})
# In lower case. A challenge says what is wanted, and holds no more than that.
_NO_SECRETS = frozenset({"idempotency-key", "www-authenticate", "proxy-authenticate"})
_PARAMETER = re.compile(r"(?<=[?&;#])([^=?&;#\s]+)=[^&;#\s\"'<>]+")
_USERINFO = re.compile(r"(?<=://)[^/?#\\\s]*@")
_AUTHORITY = re.compile(r"(://)([^/?#\\\s]*)([^\s\"'<>]*)")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_HIDDEN = "***"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request came to nothing, or to less than was asked for.

    Attributes:
        error_class: as the wire has it, such as "TRANSIENT"; None: none of its classes.
    """

    error_class: str | None = msgspec.field(name="class")
    message: str
    retry_after_ms: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints.

    Attributes:
        exit_code: the command's.
        status: None: there was no answer.
        headers: names in lower case; repeated values joined with ", " (Set-Cookie: "\\n").
        body: the body, if it is UTF-8 and in no file.
        body_base64: the body, if it is neither.
        body_bytes: how long it is.
        output: the file that it is in; None: none was written.
        first_byte_ms: from the beginning to the head.
        duration_ms: from the beginning to the end.
        attempts: how often the daemon tried to send the request; 0: it never did, or did not say.
    """

    exit_code: int
    status: int | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    body_bytes: int = 0
    output: str | None = None
    first_byte_ms: float | None = None
    duration_ms: float
    attempts: int = 0
    error: Failure | None = None

    def write(self, output: Output) -> None:
        """Print it, as the whole of what goes there.

        Raises:
            CommandFailed: it cannot be written.
        """
        with output:
            output.body(f"{json_line(self)}\n".encode())


class Collected:
    """A body that is kept for the report."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def body(self, piece: bytes) -> None:
        """Keep a piece.

        Raises:
            CommandFailed: the body is too long to be kept.
        """
        self.size += len(piece)
        if self.size > MAX_JSON_BODY_BYTES:
            raise CommandFailed(
                ExitCode.NOT_WRITTEN,
                f"the body is longer than {MAX_JSON_BODY_BYTES} bytes, the most that --json prints; "
                "write it to a file with -o FILE",
            )
        self._pieces.append(piece)

    def text(self) -> tuple[str | None, str | None]:
        """The body as text, or else in base64."""
        data = b"".join(self._pieces)
        try:
            return data.decode(), None
        except UnicodeDecodeError:
            return None, base64.b64encode(data).decode()


def failure_of(error: StartupError | ConnectorException) -> Failure:
    """The report's form of an error."""
    if isinstance(error, ConnectorException):
        return Failure(
            error_class=error.get_error_class_name(), message=error.message, retry_after_ms=error.retry_after_ms
        )
    code = exit_code_of(error)
    return Failure(error_class="TRANSIENT" if code is ExitCode.NOT_RUNNING else None, message=str(error))


def sent_lines(request: HTTPRequest) -> Iterator[str]:
    """What goes to the daemon, for a person; secrets are not shown."""
    yield f"> {request.method} {shown_url(request.url)}"
    yield from _marked(">", (f"{name}: {shown_value(name, value)}" for name, value in _pairs(request.headers)))
    if request.body is not None:
        yield f"> (body of {len(request.body)} bytes)"


def received_lines(status_code: int, headers: Headers) -> Iterator[str]:
    """The head of the answer, for a person; secrets are not shown."""
    shown = [(name, shown_value(name, value)) for name, value in headers.multi_items()]
    yield from _marked("<", head_lines(status_code, shown))


def shown_value(name: str, value: str) -> str:
    """A header's value as it may be shown: of a secret no more than its scheme, URLs as ``shown_url`` has them."""
    lower = name.lower()
    if _SECRET.search(lower) is None or lower in _NO_SECRETS:
        return shown_url(value)
    scheme, space, _ = value.strip().partition(" ")
    return f"{scheme} {_HIDDEN}" if space and lower.endswith("authorization") else _HIDDEN


def shown_url(text: str) -> str:
    """A URL, or a text with URLs in it, without userinfo and without the values of parameters that have a secret's
    name."""
    text = _AUTHORITY.sub(_without_slashed_password, _USERINFO.sub(f"{_HIDDEN}@", text))
    return _PARAMETER.sub(_shown_parameter, text)


def _without_slashed_password(match: re.Match[str]) -> str:
    """Where there should be a port there may be a password, with a / in it that is not escaped: to the last @."""
    mark, authority, rest = match.groups()
    is_host = _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2]) is not None
    return match[0] if is_host or "@" not in rest else f"{mark}{_HIDDEN}@{rest.rpartition('@')[2]}"


def _shown_parameter(match: re.Match[str]) -> str:
    name = unquote(match[1]).lower()
    is_secret = _SECRET.search(name) is not None or name in _SECRET_PARAMETERS
    return f"{match[1]}={_HIDDEN}" if is_secret else match[0]


def _pairs(headers: Mapping[str, str] | None) -> list[tuple[str, str]]:
    return headers.multi_items() if isinstance(headers, Headers) else list((headers or {}).items())


def _marked(mark: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"{mark} {line}"
