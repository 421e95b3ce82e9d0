"""What ``request`` sends: the options, which are curl's, as one HTTPRequest."""

import base64
import enum
import os
from collections.abc import Sequence
from typing import BinaryIO

import click

from connector_sdk.errors import ConnectorException
from connector_sdk.headers import Headers
from connector_sdk.models import HTTPRequest
from connector_sdk.wire.framing import MAX_FRAME_BYTES
from connector_sdk.wire.messages import ErrorClass

# A request is one frame; what its URL and headers take of it the client finds out.
MAX_BODY_BYTES = MAX_FRAME_BYTES
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADER = "'-H' / '--header'"
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_NOT_IN_TEXT = b"\r\n\0"  # what curl leaves out of a file that is given as text


class Data(enum.Enum):
    """The options that give a body; the value is the option's longest name."""

    TEXT = "--data"
    RAW = "--data-raw"
    BINARY = "--data-binary"
    JSON = "--data-json"


def build(
    method: str | None,
    url: str,
    *,
    headers: Sequence[str] = (),
    data: Sequence[tuple[Data, Sequence[str]]] = (),
    user: str | None = None,
    is_head: bool = False,
    stdin: BinaryIO | None,
) -> HTTPRequest:
    """The request that these options mean.

    Args:
        method: of ``-X``; None: what the other options make it.
        headers: ``Name: value``, ``Name;`` (no value), ``Content-Type:`` (not the one that data would add).
        data: texts, ``@FILE``, ``@-`` or ``-``, of each option that was given.
        user: ``NAME:PASSWORD``.
        stdin: read where the data say so; None: it is closed.

    Raises:
        click.UsageError: options that cannot be used, or not together; a file that cannot be read.
        ConnectorException: INVALID_REQUEST, a body that no request can carry.
    """
    given = [(kind, values) for kind, values in data if values]
    if len(given) > 1:
        raise click.UsageError(f"{given[0][0].value} and {given[1][0].value} cannot be used together")
    if given and is_head:
        raise click.UsageError(f"--head asks for no body, and {given[0][0].value} gives one")
    fields, without = _fields(headers)
    present = {name.lower() for name, _ in fields} | without
    body = None
    if given:
        kind, values = given[0]
        body = _body(kind, values, stdin)
        added = {"Content-Type": _JSON, "Accept": _JSON} if kind is Data.JSON else {"Content-Type": _FORM}
        fields += [(name, value) for name, value in added.items() if name.lower() not in present]
    if user is not None and "authorization" not in present:
        fields.append(("Authorization", _basic(user)))
    usual = "HEAD" if is_head else "GET" if body is None else "POST"
    # Without a scheme it is http, as curl has it.
    whole_url = url if "://" in url or not url else f"http://{url}"
    return HTTPRequest(usual if method is None else method, whole_url, headers=Headers(fields), body=body)


def stray_byte(text: str) -> str | None:
    """The first byte of an argument that the shell gave and that is no text, as ``0xe9``; None: there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"0x{os.fsencode(text[error.start])[0]:02x}"
    return None


def _fields(headers: Sequence[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """Those that are sent, and the names, in lower case, of those that are not to be added."""
    fields: list[tuple[str, str]] = []
    without: set[str] = set()
    for number, text in enumerate(headers, start=1):
        if (stray := stray_byte(text)) is not None:
            raise click.BadParameter(f"number {number} is no UTF-8 text (byte {stray})", param_hint=_HEADER)
        name, colon, value = (part.strip(" \t") for part in text.partition(":"))
        if not colon and text.endswith(";"):
            fields.append((text[:-1], ""))
        elif not colon or not name:
            # Not quoted: it may be a key whose name was forgotten.
            raise click.BadParameter(f"number {number} is no 'Name: value'", param_hint=_HEADER)
        elif value:
            fields.append((name, value))
        elif name.lower() == "content-type":
            without.add(name.lower())
        elif name.lower() == "accept":
            raise click.BadParameter(
                f"number {number} cannot leave out Accept: the daemon sends 'Accept: */*' where there is none",
                param_hint=_HEADER,
            )
        else:
            raise click.BadParameter(
                f"number {number} has no value; 'Name;' sends a header without one, and 'Content-Type:' leaves out "
                "the one that data would add",
                param_hint=_HEADER,
            )
    return fields, without


def _basic(user: str) -> str:
    if ":" not in user:
        raise click.BadParameter("it has no password; write NAME:PASSWORD", param_hint="'-u' / '--user'")
    return f"Basic {base64.b64encode(os.fsencode(user)).decode()}"


def _body(kind: Data, values: Sequence[str], stdin: BinaryIO | None) -> bytes:
    joint = b"" if kind is Data.JSON else b"&"
    pieces: list[bytes] = []
    size = 0
    for value in values:
        piece = _piece(kind, value, stdin)
        size += len(piece) + (len(joint) if pieces else 0)
        if size > MAX_BODY_BYTES:
            raise _too_long("the body")
        pieces.append(piece)
    return joint.join(pieces)


def _piece(kind: Data, value: str, stdin: BinaryIO | None) -> bytes:
    if kind is Data.RAW or not (value == "-" or value.startswith("@")):
        return os.fsencode(value)  # the very bytes that the shell gave
    name = value.removeprefix("@")
    try:
        data = _read(name, stdin)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.BadParameter(f"cannot read {name!r}: {reason}", param_hint=f"'{kind.value}'") from error
    if kind is not Data.TEXT:
        return data
    if len(data) > MAX_BODY_BYTES:  # there may be more, which a text without its line ends would not show
        raise _too_long(f"{name!r}, with its line ends,")
    return data.translate(None, _NOT_IN_TEXT)


def _too_long(what: str) -> ConnectorException:
    return ConnectorException(
        f"{what} is longer than {MAX_BODY_BYTES} bytes, the most that a request can carry; send less at once",
        ErrorClass.INVALID_REQUEST,
    )


def _read(name: str, stdin: BinaryIO | None) -> bytes:
    """At most one byte more than a body may have."""
    if name == "-":
        if stdin is None:
            raise ValueError("standard input is closed")
        return stdin.read(MAX_BODY_BYTES + 1)
    with open(name, "rb") as file:
        return file.read(MAX_BODY_BYTES + 1)
