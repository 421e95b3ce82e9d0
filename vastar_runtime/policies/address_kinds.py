"""Addresses that are not public ones, each kind by its name.

After the IANA registries of special-purpose addresses (RFC 6890 and what came after it), with multicast (RFC 5771,
RFC 4291), and with the addresses where clouds keep the secrets of their machines. What the registries give to
protocols of the IETF, 192.0.0.0/24 and 2001::/23, is taken as a whole: no web server is there.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from vastar_runtime.config.networks import Network

from .network_table import Address, NetworkTable

_PUBLIC = "public"
_METADATA = "cloud metadata"

_NETWORKS = {
    "this network": ("0.0.0.0/8",),
    "unspecified": ("::/128",),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "unique local": ("fc00::/7",),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "site-local": ("fec0::/10",),
    "carrier-grade NAT": ("100.64.0.0/10",),
    _METADATA: (
        "169.254.169.254/32",  # nearly all
        "169.254.170.2/32",  # AWS, containers
        "169.254.170.23/32",  # AWS, pods
        "fd00:ec2::254/128",  # AWS
        "fd00:ec2::23/128",  # AWS, pods
        "fd20:ce::254/128",  # Google
        "fe80::a9fe:a9fe/128",  # OpenStack
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "168.63.129.16/32",  # Azure; it looks like a public one
    ),
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "benchmarking": ("198.18.0.0/15", "2001:2::/48"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "broadcast": ("255.255.255.255/32",),
    "discard-only": ("100::/64",),
    "local NAT64": ("64:ff9b:1::/48",),
    "IPv4-compatible": ("::/96",),
    "IPv4-translated": ("::ffff:0:0:0/96",),
    "reserved": (
        "192.0.0.0/24",
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        "240.0.0.0/4",
        "::/0",  # what nobody has given to anybody, and what is no unicast
        "2001::/23",
    ),
    # Two of these carry an IPv4 address, and are judged by that.
    _PUBLIC: ("2000::/3", "2001::/32", "2002::/16"),
}


class Kind(NamedTuple):
    """What an address is instead of a public one."""

    name: str
    network: Network

    @property
    def is_metadata(self) -> bool:
        """A cloud keeps the secrets of its machines there."""
        return self.name == _METADATA

    def __str__(self) -> str:
        is_one_address = self.network.prefixlen == self.network.max_prefixlen
        return f"{self.name} ({self.network.network_address if is_one_address else self.network})"


_KINDS = NetworkTable(
    (network, Kind(name, network))
    for name, networks in _NETWORKS.items()
    for network in map(ipaddress.ip_network, networks)
)


def special_kind(address: Address) -> Kind | None:
    """Of an address that is not a public one; None: it is one.

    Args:
        address: what carries an IPv4 address is judged as if it did not: see ``carried_addresses``.
    """
    kind = _KINDS.find(address)
    return None if kind is None or kind.name == _PUBLIC else kind
