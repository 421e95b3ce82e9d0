"""IPv4 addresses inside IPv6 ones: to connect to the one is to reach the other.

A network's own NAT64 prefix (RFC 6052, section 2.2) cannot be told from any other address; it is for a rule of the
configuration to name it.
"""

from __future__ import annotations

import ipaddress

from .network_table import Address

_V4_BITS = 0xFFFF_FFFF
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")  # RFC 2765, section 2.1
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, section 2.5.5.1
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214, section 6.1
# Linux takes "this host" as a destination for itself.
_THIS_HOST: dict[Address, Address] = {
    ipaddress.IPv4Address(0): ipaddress.IPv4Address("127.0.0.1"),
    ipaddress.IPv6Address(0): ipaddress.IPv6Address("::1"),
}


def reached(address: Address) -> tuple[Address, ...]:
    """All that a connection to this address leads to, as far as the address tells; each of them is to be judged.

    What is only another way to write an IPv4 address (IPv4-mapped, NAT64) is that address alone; what goes through a
    tunnel is both ends of it.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return reached(address.ipv4_mapped)
        if address in _NAT64:
            return reached(_v4(int(address)))
    found = [address]
    if address in _THIS_HOST:
        found.append(_THIS_HOST[address])
    elif isinstance(address, ipaddress.IPv6Address):
        for carried in _carried(address):
            found += reached(carried)
    return tuple(found)


def perhaps_reached(address: Address) -> tuple[Address, ...]:
    """All of ``reached``, the address as it is, and what it leads to if a prefix is used in one of several ways."""
    found = (address, *reached(address))
    if isinstance(address, ipaddress.IPv6Address) and address in _LOCAL_NAT64:
        number = int(address)
        high, low = number >> 64, number
        # RFC 6052, section 2.2: prefixes of 48, 56, 64 and 96 bits; bits 64 to 71 hold nothing.
        found += (
            _v4(high << 16 | low >> 40 & 0xFFFF),
            _v4(high << 24 | low >> 32 & 0xFF_FFFF),
            _v4(low >> 24),
            _v4(low),
        )
    return found


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    number = int(address)
    if (number >> 32 & _V4_BITS) in _ISATAP or address in _TRANSLATED or (address in _COMPATIBLE and number > 1):
        ends = [_v4(number)]
    else:
        ends = []
    if address.sixtofour is not None:
        ends.append(address.sixtofour)
    if address.teredo is not None:
        ends += address.teredo
    return ends


def _v4(number: int) -> ipaddress.IPv4Address:
    """Of the last 32 bits."""
    return ipaddress.IPv4Address(number & _V4_BITS)
