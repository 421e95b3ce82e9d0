"""A request's JSON parameters (protocol.md part 1), checked, with the existing runtime's words where it has any."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from connector_sdk.wire import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES
from vastar_runtime.errors import InvalidRequest
from vastar_runtime.http.request import HeaderBlock, check_headers

MAX_TIMEOUT_MS = 10 * 365 * 24 * 3600 * 1000  # no one waits longer; a larger JSON number might not fit a float


class Parameters(msgspec.Struct):
    """What a request is made of.

    Attributes:
        timeout_ms: above 0; None: none.
    """

    url: str
    method: str
    headers: HeaderBlock
    timeout_ms: float | None
    body: bytes


class _Usual(msgspec.Struct):
    """The parameters as nearly every client sends them: read in one step, each member of the type that it must have.
    Whatever does not fit is looked at member by member, for the words that say what is wrong with it."""

    url: str
    method: str | None = None
    headers: msgspec.Raw = msgspec.Raw(b"null")
    timeout_ms: float | None = None
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body_base64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Members(msgspec.Struct):
    """The payload's members, each kept as text until it is looked at: an unused one may be anything."""

    url: msgspec.Raw = msgspec.Raw(b"null")
    method: msgspec.Raw = msgspec.Raw(b"null")
    headers: msgspec.Raw = msgspec.Raw(b"null")
    timeout_ms: msgspec.Raw = msgspec.Raw(b"null")
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body_base64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_members = msgspec.json.Decoder(_Members).decode
_decode_usual = msgspec.json.Decoder(_Usual).decode

# An application sends most of its requests with the same headers: the blocks that came lately are not read again. They
# may have keys in them, and stay until as many others have come.
MAX_REMEMBERED_BLOCKS = 256
MAX_REMEMBERED_BLOCK_BYTES = 2048
_REMEMBERED: dict[bytes, HeaderBlock] = {}


def read_parameters(payload: bytes) -> Parameters:
    """The parameters in a request's payload.

    Raises:
        InvalidRequest: saying what is wrong with them.
    """
    # A longer one may hold more headers than may become objects before they are counted.
    if len(payload) <= 2 * MAX_KEY_VALUE_BYTES:
        try:
            usual = _decode_usual(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _read_members(payload)
        timeout_ms = usual.timeout_ms or 0.0
        if 0 <= timeout_ms <= MAX_TIMEOUT_MS:
            body = _body(usual.body, usual.body_base64)
            return Parameters(usual.url, usual.method or "GET", _headers(usual.headers), timeout_ms or None, body)
    return _read_members(payload)


def _read_members(payload: bytes) -> Parameters:
    try:
        members = _decode_members(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"Invalid HTTP params: {error}") from error
    url = _value(members.url)
    if not isinstance(url, str):
        raise InvalidRequest("Missing required field: url")
    method = _value(members.method)
    if not isinstance(method, str | None):
        raise InvalidRequest(f"Invalid HTTP params: method must be a string, not {_kind(method)}")
    return Parameters(
        url,
        method or "GET",
        _headers(members.headers),
        _timeout_ms(_value(members.timeout_ms)),
        _body(members.body, members.body_base64),
    )


def _value(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"Invalid HTTP params: {error}") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _headers(raw: msgspec.Raw) -> HeaderBlock:
    text = bytes(raw)
    block = _REMEMBERED.get(text)
    if block is None:
        block = check_headers(_read_headers(text).items())
        if len(text) <= MAX_REMEMBERED_BLOCK_BYTES:
            if len(_REMEMBERED) >= MAX_REMEMBERED_BLOCKS:
                del _REMEMBERED[next(iter(_REMEMBERED))]
            _REMEMBERED[text] = block
    return block


def _read_headers(text: bytes) -> dict[str, str]:
    if len(text) > 2 * MAX_KEY_VALUE_BYTES:  # judged before it becomes objects, of which there would be many
        raise InvalidRequest(f"Invalid HTTP params: headers of {len(text)} bytes are more than any server takes")
    value = _value(msgspec.Raw(text))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"Invalid HTTP params: headers must be an object of strings, not {_kind(value)}")
    if len(value) > MAX_KEY_VALUES:
        raise InvalidRequest(f"Invalid HTTP params: {len(value)} headers exceed the limit of {MAX_KEY_VALUES}")
    for name, item in value.items():
        if not isinstance(item, str):
            raise InvalidRequest(f"Invalid HTTP params: header {name[:64]!r} must be a string, not {_kind(item)}")
    return value


def _body(text_or_tree: msgspec.Raw | msgspec.UnsetType, in_base64: msgspec.Raw | msgspec.UnsetType) -> bytes:
    if in_base64 is not msgspec.UNSET:
        if text_or_tree is not msgspec.UNSET:
            raise InvalidRequest("Invalid HTTP params: body and body_base64 exclude each other")
        text = _value(in_base64)
        try:
            return base64.b64decode(text, validate=True)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"Invalid HTTP params: body_base64 is no base64 string ({error})") from error
    if text_or_tree is msgspec.UNSET:
        return b""
    text = bytes(text_or_tree)
    if text.startswith(b'"'):
        return str(_value(text_or_tree)).encode()
    # Its syntax was checked on the way here; a tree of objects of ten million brackets would only cost time.
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Invalid HTTP params: the body is not UTF-8 ({error})") from error
    return text


def _timeout_ms(value: object) -> float | None:
    """0 means none: SDKs in Go and Java send it for a field that was never set."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidRequest("Invalid HTTP params: timeout_ms must be a number of milliseconds above 0")
    return float(min(value, MAX_TIMEOUT_MS)) or None
