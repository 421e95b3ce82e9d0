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
        lines: the header block as it is written (RFC 9112, section 5): see ``written``.
        closes: it asks for the connection's end.
    """

    method: str
    url: Url
    headers: Headers
    body: bytes
    decodes: bool
    has_idempotency_key: bool
    lines: bytes
    closes: bool

    def __repr__(self) -> str:
        """Without headers, query and body, which may be secret."""
        return f"<OutboundRequest {self.method} {self.url.origin}{self.url.path}>"

    @property
    def names_other_host(self) -> bool:
        """Its Host is not that of its URL: a server of several hosts would take it for another one of them."""
        origin = self.url.origin
        host = next((value for name, value in self.headers if name == b"host"), b"").lower()
        return host not in (origin.authority.encode(), origin.address.encode())

    @property
    def may_repeat(self) -> bool:
        """Sending it twice does no more than sending it once."""
        return self.has_idempotency_key or self.method in IDEMPOTENT_METHODS


class HeaderBlock:
    """A client's header fields, checked; what follows from them is found out once, however often they are sent.

    Attributes:
        fields: names in lower case, in order, without those that tell how the body is framed.
        content_lengths: what it says of that, as it was given.
        decodes, has_idempotency_key, closes: see OutboundRequest.
    """

    def __init__(self, fields: Headers, content_lengths: tuple[str, ...]) -> None:
        self.fields = fields
        self.content_lengths = content_lengths
        names = {name for name, _ in fields}
        self.has_host = b"host" in names
        self.has_accept = b"accept" in names
        self.has_authorization = b"authorization" in names
        self.decodes = b"accept-encoding" not in names
        self.has_idempotency_key = any(name == b"idempotency-key" and value for name, value in fields)
        self.closes = closes(fields)
        self._completed: tuple[str, Headers, bytes] = ("", (), b"")

    def completed_for(self, authority: str) -> tuple[Headers, bytes]:
        """With what every request has, for this Host; and as it is written."""
        completed_for, headers, lines = self._completed
        if completed_for != authority:
            host = () if self.has_host else ((b"host", authority.encode()),)
            accept = () if self.has_accept else ((b"accept", b"*/*"),)
            headers = host + self.fields + accept
            lines = written(headers)
            self._completed = (authority, headers, lines)
        return headers, lines


def build_request(method: str, url: Url, headers: Iterable[tuple[str, str]], body: bytes) -> OutboundRequest:
    """Check what the client asked for and complete it (protocol.md part 1, behaviour table).

    Raises:
        InvalidRequest: see ``check_headers`` and ``complete_request``.
    """
    return complete_request(method, url, check_headers(headers), body)


def check_headers(headers: Iterable[tuple[str, str]]) -> HeaderBlock:
    """What a request can be completed with.

    Raises:
        InvalidRequest: an illegal header name or value (values are never quoted: they may be secret), or a header that
            is not for a client to set.
    """
    fields: list[tuple[bytes, bytes]] = []
    content_lengths: list[str] = []
    has_host = False
    for name, value in headers:
        raw_name, raw_value = _checked(name, value)
        if raw_name == b"content-length":
            content_lengths.append(value.strip(" \t"))
            continue
        if raw_name == b"transfer-encoding":
            # The body is whole: how it is framed is ours to choose. Other codings would change its bytes.
            if raw_value.lower() != b"chunked":
                raise InvalidRequest("Transfer-Encoding: only 'chunked' can be asked for")
            continue
        if raw_name == b"upgrade":
            raise InvalidRequest("Upgrade: switching protocols is not supported")
        if raw_name == b"host":
            if has_host:
                raise InvalidRequest("Host is given twice")
            has_host = True
        fields.append((raw_name, raw_value))
    return HeaderBlock(tuple(fields), tuple(content_lengths))


def complete_request(method: str, url: Url, block: HeaderBlock, body: bytes) -> OutboundRequest:
    """The request that these headers belong to.

    Raises:
        InvalidRequest: an unsupported method, or a Content-Length that is not the body's.
    """
    method = method.upper()
    if method not in METHODS:
        raise InvalidRequest(f"unsupported method: {method[:32]!r}; supported are {', '.join(METHODS)}")
    length = str(len(body))
    for given in block.content_lengths:
        if given != length:
            raise InvalidRequest(f"Content-Length given as {given[:32]!r}, but the body has {length} bytes")
    headers, lines = block.completed_for(url.origin.authority)
    if url.userinfo is not None and not block.has_authorization:
        authorization = ((b"authorization", b"Basic " + base64.b64encode(url.userinfo)),)
        headers += authorization
        lines += written(authorization)
    if body or method in _METHODS_WITH_BODY:
        raw_length = length.encode()
        headers += ((b"content-length", raw_length),)
        lines += b"content-length: %b\r\n" % raw_length
    return OutboundRequest(method, url, headers, body, block.decodes, block.has_idempotency_key, lines, block.closes)


def written(headers: Headers) -> bytes:
    """As lines. Host stands first, as RFC 9110, section 7.2 wishes."""
    if len(headers) > 1 and headers[0][0] != b"host":
        headers = tuple(sorted(headers, key=lambda header: header[0] != b"host"))
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def closes(headers: Headers) -> bool:
    """Whether a header block asks for the connection's end."""
    return any(name == b"connection" and names_close(value) for name, value in headers)


def names_close(connection: bytes) -> bool:
    """Whether a Connection header does (RFC 9112, section 9.6)."""
    return b"close" in connection.lower() and b"close" in [option.strip() for option in connection.lower().split(b",")]


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
