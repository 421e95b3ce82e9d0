"""Rules of where requests may go: an origin's pattern, or a network."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from .origins import OriginPattern, parse_pattern
from .quoting import quoted

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_ALLOWED = 'an origin such as "https://*.openai.com", or a network such as "10.0.0.0/8", "192.0.2.7" or "fd00::/8"'


def parse_rule(found: object) -> OriginPattern | Network:
    """A rule from the file.

    Raises:
        ValueError: it is none; the text goes after the key.
    """
    if not isinstance(found, str):
        raise ValueError(f"found {quoted(found)}; allowed: {_ALLOWED}")
    if "://" in found:
        return parse_pattern(found)
    text = found.strip("[]")
    try:
        if "%" in text:
            raise ValueError("a zone means something on one machine only")
        return _unmapped(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"found {quoted(found)}; allowed: {_ALLOWED}{_hint(text)}") from error


# Rules are kept as texts, and asked for again at every request that no memory knows.
rule_of = lru_cache(4096)(parse_rule)


def _unmapped(network: Network) -> Network:
    """IPv4 networks that are written as IPv6 are what they mean (RFC 4291, section 2.5.5.2). All of them together are
    not: that is a line of many a list, and about the form."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen > _MAPPED.prefixlen:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def _hint(text: str) -> str:
    if "%" in text:
        return "; an address has no zone here"
    try:
        return f"; the network is {quoted(str(ipaddress.ip_network(text, strict=False)))}"
    except ValueError:
        return ""
