"""Rules of where requests may go: an origin's pattern, or a network."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from .origins import OriginPattern, parse_pattern
from .quoting import quoted

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"found {quoted(found)}; allowed: {_ALLOWED}{_hint(text)}") from error


# Rules are kept as texts, and asked for again at every request that no memory knows.
rule_of = lru_cache(4096)(parse_rule)


def _hint(text: str) -> str:
    try:
        return f"; the network is {quoted(str(ipaddress.ip_network(text, strict=False)))}"
    except ValueError:
        return ""
