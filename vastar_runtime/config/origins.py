"""Patterns of origins: ``https://api.openai.com``, ``https://*.openai.com``, ``http://127.0.0.1:*``, ``*://localhost``."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from .quoting import quoted

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_MAX_CHARACTERS = 300  # a host name has at most 253
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_*-]{1,63}\.)*[a-z0-9_*-]{1,63}\.?")
_CUT_ADDRESS = re.compile(r"(?:[0-9]+\.)+\*[0-9.*]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ALLOWED = "SCHEME://HOST or SCHEME://HOST:PORT; the scheme is http, https or *, host and port may hold *"
# No pattern holds it but by a "*".
_ANYTHING = "\0"


class Target(NamedTuple):
    """An origin, taken apart; the port is a number's digits."""

    scheme: str
    host: str
    port: str


class OriginPattern(NamedTuple):
    """A pattern that was checked.

    Attributes:
        scheme: "http", "https", or "*".
        host: lower case; "*" stands for any characters of a host, also none; IPv6 in brackets.
        port: digits, "*", or "" for the scheme's own where the scheme is "*".
    """

    scheme: str
    host: str
    port: str

    def matches(self, target: Target) -> bool:
        """Whether an origin is meant; takes time in proportion to the length of both."""
        return (
            self.scheme in ("*", target.scheme)
            and (self.port == "*" or (self.port or _DEFAULT_PORTS.get(target.scheme, "")) == target.port)
            and glob(self.host, target.host)
        )

    @property
    def rank(self) -> tuple[bool, int]:
        """Orders patterns by how much they say: exact ones last, and the more characters, the later."""
        text = str(self)
        return "*" not in text, len(text) - text.count("*")

    @property
    def sample(self) -> Target:
        """An origin that is matched by this pattern, and of the others only by those that match all that this does."""
        port = self.port or _DEFAULT_PORTS.get(self.scheme, "")
        scheme, host, port = (text.replace("*", _ANYTHING) for text in (self.scheme, self.host, port))
        return Target(scheme, host, port)

    def __str__(self) -> str:
        if self.host == "*":  # which, alone, is any port
            return f"{self.scheme}://*" + ("" if self.port == "*" else f":{self.port}")
        port = "" if self.port == _DEFAULT_PORTS.get(self.scheme, "") else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


ANY_ORIGIN = OriginPattern("*", "*", "*")


def parse_pattern(found: object) -> OriginPattern:
    """A pattern from the file.

    Raises:
        ValueError: it is none; the text goes after the key.
    """
    if not isinstance(found, str) or len(found) > _MAX_CHARACTERS:
        raise _refused(found)
    if "@" in found:  # not quoted: what stands there may be a password
        raise ValueError(f"it holds '@'; allowed: {_ALLOWED}, and neither user nor password")
    scheme, separator, rest = found.lower().partition("://")
    if not separator:
        raise _refused(found, f"write {quoted('https://' + found)}" if _HOST.fullmatch(found.lower()) else "")
    place, slash, _ = rest.partition("/")
    if slash:
        raise _refused(found, f"an origin has no path: write {quoted(f'{scheme}://{place}')}")
    if scheme not in (*_DEFAULT_PORTS, "*"):
        raise _refused(found)
    host, port = _split(place)
    host = host.removesuffix(".")  # requests come without it, too: "host." and "host" are one place
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise _refused(found, "this is no IPv6 address") from error
        if address.scope_id is not None:
            raise _refused(found, "an IPv6 address has no zone here")
        host = f"[{address}]"
    elif not host.isascii():
        raise _refused(found, "write a host in its ASCII form (xn--...)")
    elif not _HOST.fullmatch(host):
        raise _refused(found, "this is no host")
    elif _NUMBER.fullmatch(host.rpartition(".")[2]) and "*" not in host:
        # Requests have it in this form, whatever they were written with (https://url.spec.whatwg.org, host parsing).
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise _refused(found, "an IPv4 address has four numbers: 127.0.0.1") from error
    host = re.sub(r"\*+", "*", host)
    if _CUT_ADDRESS.fullmatch(host):
        raise _refused(found, "of addresses, name a network where that is allowed: 192.168.*, as a name, is anybody's")
    if not port and not place.endswith(":"):
        port = "*" if host == "*" else _DEFAULT_PORTS.get(scheme, "")
    elif port != "*":
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise _refused(found, "a port is a number from 1 to 65535, or *")
        port = str(int(port))
    return OriginPattern(scheme, host, port)


def split_origin(origin: str) -> Target:
    """An origin as requests have it: scheme://host or scheme://host:port, in lower case."""
    scheme, _, place = origin.partition("://")
    host, port = _split(place)
    return Target(scheme, host, port or _DEFAULT_PORTS.get(scheme, ""))


def _split(place: str) -> tuple[str, str]:
    if place.endswith("]") or ":" not in place:
        return place, ""
    host, _, port = place.rpartition(":")
    return host, port


def glob(pattern: str, text: str) -> bool:
    """Whether all of a text is as the pattern says, where * stands for any characters, also none."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:  # the first place that fits leaves the most room for those after it
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _refused(found: object, hint: str = "") -> ValueError:
    return ValueError(f"found {quoted(found)}; allowed: {_ALLOWED}" + (f"; {hint}" if hint else ""))
