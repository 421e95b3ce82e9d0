"""Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case. Pure."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping

import msgspec

from vastar_runtime.errors import ConfigError, InvalidRequest

from .url import Origin, Url, parse_url


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's origin, and the Proxy-Authorization it wants, or None."""

    origin: Origin
    authorization: bytes | None


class Proxies:
    """The environment's choice of proxy for an origin.

    Args:
        environ: read once. As with curl, the lower-case name wins over the upper-case one, an empty value means
            none, and a value without a scheme is an http proxy.

    Raises:
        ConfigError: a variable that names no http or https proxy.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        anything = _proxy(environ, "all_proxy")
        self._by_scheme = {
            "http": _proxy(environ, "http_proxy") or anything,
            "https": _proxy(environ, "https_proxy") or anything,
        }
        self._exceptions = [entry.strip().lower() for entry in _variable(environ, "no_proxy")[1].split(",")]

    def for_origin(self, origin: Origin) -> Proxy | None:
        """The proxy for requests to this origin, or None to connect directly."""
        proxy = self._by_scheme[origin.scheme]
        if proxy is None or any(_matches(entry, origin) for entry in self._exceptions if entry):
            return None
        return proxy


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for spelling in (name, name.upper()):
        if spelling in environ:
            return spelling, environ[spelling].strip()
    return name, ""


def _proxy(environ: Mapping[str, str], name: str) -> Proxy | None:
    variable, text = _variable(environ, name)
    if not text:
        return None
    if (byte := _no_text(text)) is not None:
        reason = f"it holds the byte 0x{byte:02x}, which is no UTF-8; in a password that is written %{byte:02X}"
        raise ConfigError(f"{variable}: no proxy ({reason}); it takes http://[user:password@]host:port")
    try:
        url: Url = parse_url(text if "://" in text else f"http://{text}")
    except InvalidRequest as error:
        raise ConfigError(f"{variable}: no proxy ({error}); it takes http://[user:password@]host:port") from error
    authorization = None if url.userinfo is None else b"Basic " + base64.b64encode(url.userinfo)
    return Proxy(url.origin, authorization)


def _no_text(text: str) -> int | None:
    """The first byte of a variable that is none of a text, which os.environ has half a surrogate pair for."""
    return next((ord(character) - 0xDC00 for character in text if "\udc80" <= character <= "\udcff"), None)


def _matches(entry: str, origin: Origin) -> bool:
    """One NO_PROXY entry: "*", a name (with its subdomains), an address, a network, each with an optional port."""
    if entry == "*":
        return True
    host, _, port = entry.rpartition(":")
    if host and port.isdecimal() and (":" not in host or host.endswith("]")):
        if int(port) != origin.port:
            return False
        entry = host
    entry = entry.strip("[]")
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = entry.lstrip(".")
        return bool(name) and (origin.host == name or origin.host.endswith("." + name))
