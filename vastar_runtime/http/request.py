"""The request as it goes out: checked, and completed with what the existing runtime adds."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import msgspec

from vastar_runtime.errors import InvalidRequest

from .url import Url

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110, section 9.2.2

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_ILLEGAL_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # section 5.5

# 128 KiB at most; the first so many names stay.
MAX_KNOWN_NAMES = 1024
MAX_KNOWN_NAME_CHARACTERS = 64
_KNOWN_NAMES: dict[str, bytes] = {}

Headers = tuple[tuple[bytes, bytes], ...]


class OutboundRequest(msgspec.Struct, frozen=True):
    """One request to one URL, ready for the wire of HTTP.

    Attributes:
        headers: names in lower case, in order; Host and Content-Length are among them.
        decodes: the client set no Accept-Encoding, so that a Content-Encoding is for us to undo.
        has_idempotency_key: the client vouches that the upstream acts only once, however often this is sent
            (draft-ietf-httpapi-idempotency-key-header).
    """

    method: str
    url: Url
    headers: Headers
    body: bytes
    decodes: bool
    has_idempotency_key: bool = False

    @property
    def may_repeat(self) -> bool:
        """Sending it twice does no more than sending it once."""
        return self.has_idempotency_key or self.method in IDEMPOTENT_METHODS


def build_request(method: str, url: Url, headers: Iterable[tuple[str, str]], body: bytes) -> OutboundRequest:
    """Check what the client asked for and complete it (protocol.md part 1, behaviour table).

    Raises:
        InvalidRequest: an unsupported method, an illegal header name or value (values are never quoted:
            they may be secret), or a Content-Length that is not the body's.
    """
    method = method.upper()
    if method not in METHODS:
        raise InvalidRequest(f"unsupported method: {method[:32]!r}; supported are {', '.join(METHODS)}")
    out: list[tuple[bytes, bytes]] = []
    names: set[bytes] = set()
    has_idempotency_key = False
    for name, value in headers:
        raw_name, raw_value = _checked(name, value)
        if raw_name == b"content-length":
            if raw_value != b"%d" % len(body):
                raise InvalidRequest(
                    f"Content-Length given as {value.strip()[:32]!r}, but the body has {len(body)} bytes"
                )
            continue
        if raw_name == b"transfer-encoding":
            # The body is whole: how it is framed is ours to choose. Other codings would change its bytes.
            if raw_value.lower() != b"chunked":
                raise InvalidRequest("Transfer-Encoding: only 'chunked' can be asked for")
            continue
        if raw_name == b"upgrade":
            raise InvalidRequest("Upgrade: switching protocols is not supported")
        if raw_name == b"host" and b"host" in names:
            raise InvalidRequest("Host is given twice")
        if raw_name == b"idempotency-key" and raw_value:
            has_idempotency_key = True
        names.add(raw_name)
        out.append((raw_name, raw_value))
    if b"host" not in names:
        out.insert(0, (b"host", url.origin.authority.encode()))
    if b"accept" not in names:
        out.append((b"accept", b"*/*"))
    if url.userinfo is not None and b"authorization" not in names:
        out.append((b"authorization", b"Basic " + base64.b64encode(url.userinfo)))
    if body or method in _METHODS_WITH_BODY:
        out.append((b"content-length", b"%d" % len(body)))
    return OutboundRequest(
        method,
        url,
        tuple(out),
        body,
        decodes=b"accept-encoding" not in names,
        has_idempotency_key=has_idempotency_key,
    )


def _checked(name: str, value: str) -> tuple[bytes, bytes]:
    raw_name = _raw_name(name)
    if not raw_name:
        raise InvalidRequest(f"illegal header name: {name[:64]!r}")
    value = value.strip(" \t")
    if not value.isprintable() and _ILLEGAL_IN_VALUE.search(value):
        raise InvalidRequest(f"illegal character in the value of header {name[:64]!r}")
    try:
        return raw_name, value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"half of a surrogate pair in the value of header {name[:64]!r}") from error


def _raw_name(name: str) -> bytes:
    """In lower case; empty for what is no name. Applications use the same few names again and again."""
    if (known := _KNOWN_NAMES.get(name)) is not None:
        return known
    raw_name = name.lower().encode() if _TOKEN.fullmatch(name) else b""
    if raw_name and len(name) <= MAX_KNOWN_NAME_CHARACTERS and len(_KNOWN_NAMES) < MAX_KNOWN_NAMES:
        _KNOWN_NAMES[name] = raw_name
    return raw_name
