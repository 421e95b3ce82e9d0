"""URLs as the existing runtime reads them: the WHATWG rules for http and https (https://url.spec.whatwg.org)."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urljoin

import idna

from vastar_runtime.errors import InvalidRequest

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_CHARACTERS = 65_536  # servers refuse far shorter ones; this only bounds the work done here
# Applications ask for the same few URLs again and again: the last ones are not parsed anew (1 MiB at most).
REMEMBERED_URLS = 1024
MAX_REMEMBERED_CHARACTERS = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# Labels of 1 to 63 characters (RFC 1035, section 2.3.4): neither DNS nor TLS can be asked for others.
_REGISTERED_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
# https://url.spec.whatwg.org/#ends-in-a-number-checker: such a host is an address, or nothing.
_LAST_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NUMBER = re.compile(r"0x(?P<hex>[0-9a-f]*)|0(?P<octal>[0-7]+)|(?P<decimal>[1-9][0-9]*|0)")
# What stays as it is; everything else is percent-encoded as UTF-8. A "%" stays: escapes are kept as they came.
_PATH_ESCAPE = re.compile(r"[^!$%&'()*+,\-./0-9:;=@A-Z\[\]^_a-z|~]")
_QUERY_ESCAPE = re.compile(r"[^!$%&()*+,\-./0-9:;=?@A-Z\[\\\]^_`a-z{|}~]")
_SINGLE_DOT = {".", "%2e"}
_DOUBLE_DOT = {"..", ".%2e", "%2e.", "%2e%2e"}


class Origin(NamedTuple):
    """Scheme, host and port (RFC 9110, section 4.3.1); an IPv6 host stands without its brackets, and an IPv4 host in
    dotted decimal, however it was written."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port, as errors name it."""
        return f"{self._bracketed_host}:{self.port}"

    @property
    def authority(self) -> str:
        """host, and the port unless it is the scheme's own: the Host header (RFC 9110, section 7.2)."""
        return _authority(self)

    @property
    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def without_root(self) -> str:
        """What policies go by: "host." and "host" are one place (RFC 1034, section 3.1)."""
        return _text(self._replace(host=self.host[:-1]) if self.host.endswith(".") else self)

    def __str__(self) -> str:
        return _text(self)


# Asked for several times in every request.
@lru_cache(REMEMBERED_URLS)
def _authority(origin: Origin) -> str:
    return origin._bracketed_host if origin.port == DEFAULT_PORTS[origin.scheme] else origin.address


@lru_cache(REMEMBERED_URLS)
def _text(origin: Origin) -> str:
    return f"{origin.scheme}://{_authority(origin)}"


class Url(NamedTuple):
    """An absolute http or https URL.

    Attributes:
        target: path and query, percent-encoded ASCII; begins with "/".
        userinfo: "user:password", unescaped, or None.
    """

    origin: Origin
    target: str
    userinfo: bytes | None = None

    @property
    def path(self) -> str:
        """The target without its query: what may stand in a log."""
        return self.target.partition("?")[0]

    def __str__(self) -> str:
        """The URL without its userinfo."""
        return f"{self.origin}{self.target}"

    def join(self, reference: str) -> Url:
        """The URL that a Location header refers to (RFC 9110, section 10.2.2).

        Raises:
            InvalidRequest: as parse_url.
        """
        try:
            absolute = urljoin(str(self), reference)
        except ValueError as error:  # its text is not passed on: it may quote a password
            raise InvalidRequest("malformed URL: its host cannot be read") from error
        return parse_url(absolute)


def parse_url(text: str) -> Url:
    """Parse an absolute URL; its fragment is dropped.

    Raises:
        InvalidRequest: saying what is wrong, without quoting query or userinfo.
    """
    # A password is not to lie about for longer than its request.
    is_remembered = len(text) <= MAX_REMEMBERED_CHARACTERS and "@" not in text
    return _parse_repeated(text) if is_remembered else _parse(text)


def _parse(text: str) -> Url:
    text = text.strip(" ")
    if len(text) > MAX_URL_CHARACTERS:
        raise InvalidRequest(f"malformed URL: {len(text)} characters, more than {MAX_URL_CHARACTERS}")
    if _CONTROL.search(text):
        raise InvalidRequest("malformed URL: it contains a control character")
    if _SURROGATE.search(text):
        raise InvalidRequest("malformed URL: it contains half of a surrogate pair")
    match = _SCHEME.match(text)
    if match is None:
        raise InvalidRequest("malformed URL: it has no scheme; it must begin with http:// or https://")
    scheme = match[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidRequest(f"unsupported URL scheme: {scheme[:32]}; http and https are supported")
    rest, _, _ = text[match.end() :].partition("#")
    before_query, question_mark, query = rest.partition("?")
    before_query = before_query.replace("\\", "/")
    if not before_query.startswith("//"):
        raise InvalidRequest(f"malformed URL: '{scheme}:' is not followed by '//' and a host")
    authority, slash, path = before_query[2:].partition("/")
    userinfo, at, host_port = authority.rpartition("@")
    host, port = _host_and_port(host_port, DEFAULT_PORTS[scheme])
    target = _escape(_PATH_ESCAPE, _without_dot_segments(slash + path or "/"))
    if question_mark:
        target += "?" + _escape(_QUERY_ESCAPE, query)
    credentials = unquote_to_bytes(userinfo if ":" in userinfo else userinfo + ":") if at and userinfo else None
    return Url(Origin(scheme, host, port), target, credentials)


_parse_repeated = lru_cache(REMEMBERED_URLS)(_parse)


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, port_text = text[1:].partition("]")
        if not bracket or (port_text and not port_text.startswith(":")):
            raise InvalidRequest("malformed URL: the IPv6 address is not closed by ']'")
        try:
            address = ipaddress.IPv6Address(host)
            if address.scope_id is not None:
                raise ValueError("a zone means something on one machine only")
        except ValueError as error:
            raise InvalidRequest(f"malformed URL: [{host[:64]}] is no IPv6 address") from error
        host = str(address)
        port_text = port_text[1:]
    else:
        host, _, port_text = text.partition(":")
        host = _registered_name(host)
    if not port_text:
        return host, default_port
    if not (port_text.isascii() and port_text.isdigit()):
        # Not quoted: behind an unescaped "/" in a password, what stands here is the password.
        raise InvalidRequest("malformed URL: the port is no number")
    if len(port_text) > 5 or not 1 <= int(port_text) <= 65535:
        raise InvalidRequest(f"malformed URL: port {port_text[:16]} is outside 1 to 65535")
    return host, int(port_text)


def _registered_name(host: str) -> str:
    if not host:
        raise InvalidRequest("malformed URL: it has no host")
    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidRequest(f"malformed URL: {host[:64]!r} is no host name ({error})") from error
    if not _REGISTERED_NAME.fullmatch(name):
        raise InvalidRequest(f"malformed URL: {host[:64]!r} is no host name")
    if _LAST_NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
        try:
            return _ipv4_address(name)
        except ValueError as error:
            raise InvalidRequest(f"malformed URL: {host[:64]!r} is no IPv4 address") from error
    return name


def _ipv4_address(name: str) -> str:
    """Of up to four numbers, decimal, octal or hexadecimal, the last of which fills what the others leave
    (https://url.spec.whatwg.org/#concept-ipv4-parser)."""
    *numbers, last = [_number(part) for part in name.removesuffix(".").split(".")]
    if len(numbers) > 3 or any(number > 255 for number in numbers) or last >= 256 ** (4 - len(numbers)):
        raise ValueError("too many, or too large")
    return str(ipaddress.IPv4Address(int.from_bytes(bytes(numbers), "big") * 256 ** (4 - len(numbers)) + last))


def _number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("no number")
    if match["hex"] is not None:
        return int(match["hex"] or "0", 16)
    return int(match["octal"], 8) if match["octal"] else int(match["decimal"])


def _without_dot_segments(path: str) -> str:
    if "." not in path and "%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        if segment.lower() in _DOUBLE_DOT:
            del kept[-1:]
        elif segment.lower() not in _SINGLE_DOT:
            kept.append(segment)
            continue
        if is_last:
            kept.append("")
    return "/" + "/".join(kept)


def _escape(unsafe: re.Pattern[str], text: str) -> str:
    return unsafe.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
