"""Which request a redirect leads to (RFC 9110, section 15.4; protocol.md part 1, behaviour table). Pure."""

from __future__ import annotations

import base64

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import InvalidRequest, UpstreamError

from .request import Headers, OutboundRequest, closes, written

MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRETS = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
_OF_THE_BODY = frozenset({b"content-type", b"content-length", b"content-encoding", b"content-language"})


def next_request(request: OutboundRequest, status_code: int, headers: Headers) -> OutboundRequest | None:
    """The request to make next, or None when this answer is the one to deliver.

    Raises:
        UpstreamError: the Location cannot be followed (Permanent).
    """
    if status_code not in _REDIRECTS:
        return None
    location = next((value for name, value in headers if name == b"location"), None)
    if location is None:
        return None
    try:
        url = request.url.join(_text(location))
    except InvalidRequest as error:
        raise UpstreamError(
            f"{request.url.origin} answered {status_code} with a Location that cannot be followed: {error}",
            ErrorClass.PERMANENT,
        ) from error

    dropped = {b"referer"}
    method, body = request.method, request.body
    if (method == "POST" and status_code in (301, 302)) or (status_code == 303 and method not in ("GET", "HEAD")):
        method, body = "GET", b""
        dropped |= _OF_THE_BODY
    if url.origin != request.url.origin:
        dropped |= _SECRETS | {b"host"}
    kept = [(name, value) for name, value in request.headers if name not in dropped]
    names = {name for name, _ in kept}
    if b"host" not in names:
        kept.insert(0, (b"host", url.origin.authority.encode()))
    if url.userinfo is not None and b"authorization" not in names:
        kept.append((b"authorization", b"Basic " + base64.b64encode(url.userinfo)))
    if not (request.url.origin.scheme == "https" and url.origin.scheme == "http"):
        kept.append((b"referer", str(request.url).encode()))
    sent = tuple(kept)
    return OutboundRequest(
        method, url, sent, body, request.decodes, request.has_idempotency_key, written(sent), closes(sent)
    )


def _text(location: bytes) -> str:
    """Some servers write other encodings than UTF-8 there; then the bytes are escaped as they are, as browsers do."""
    try:
        return location.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in location)
