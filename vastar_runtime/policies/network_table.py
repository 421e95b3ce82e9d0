"""Networks with what belongs to them; of those that an address lies in, the narrowest is found."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

from vastar_runtime.config.networks import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")


class NetworkTable(Generic[T]):
    """A lookup takes as many steps as there are lengths of prefixes, however many networks there are.

    Args:
        entries: of one network twice, the later one counts.
    """

    def __init__(self, entries: Iterable[tuple[Network, T]]) -> None:
        by_length: dict[tuple[int, int], dict[int, T]] = {}
        for network, value in entries:
            host_bits = network.max_prefixlen - network.prefixlen
            by_length.setdefault((network.version, host_bits), {})[int(network.network_address) >> host_bits] = value
        self._tables = {
            version: sorted((length[1], table) for length, table in by_length.items() if length[0] == version)
            for version in (4, 6)
        }

    def find(self, address: Address) -> T | None:
        """What belongs to the narrowest network that it lies in; None: it lies in none."""
        number = int(address)
        for host_bits, table in self._tables[address.version]:
            if (value := table.get(number >> host_bits)) is not None:
                return value
        return None
