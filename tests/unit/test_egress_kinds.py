"""Which addresses are public ones, and what the others are called."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.policies.address_kinds import special_kind
from vastar_runtime.policies.carried_addresses import perhaps_reached, reached
from vastar_runtime.policies.network_table import NetworkTable


@pytest.mark.parametrize(
    ("kind", "addresses"),
    [
        ("this network (0.0.0.0/8)", "0.0.0.0 0.0.0.1 0.255.255.255"),
        ("private (10.0.0.0/8)", "10.0.0.0 10.255.255.255"),
        ("private (172.16.0.0/12)", "172.16.0.0 172.31.255.255"),
        ("private (192.168.0.0/16)", "192.168.0.0 192.168.255.255"),
        ("loopback (127.0.0.0/8)", "127.0.0.0 127.0.0.1 127.255.255.255"),
        ("link-local (169.254.0.0/16)", "169.254.0.0 169.254.255.255"),
        ("carrier-grade NAT (100.64.0.0/10)", "100.64.0.0 100.127.255.255"),
        ("reserved (192.0.0.0/24)", "192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.255"),
        ("reserved (192.88.99.0/24)", "192.88.99.0 192.88.99.1"),
        ("documentation (192.0.2.0/24)", "192.0.2.0 192.0.2.255"),
        ("documentation (198.51.100.0/24)", "198.51.100.1"),
        ("documentation (203.0.113.0/24)", "203.0.113.1"),
        ("benchmarking (198.18.0.0/15)", "198.18.0.0 198.19.255.255"),
        ("multicast (224.0.0.0/4)", "224.0.0.0 239.255.255.255"),
        ("reserved (240.0.0.0/4)", "240.0.0.0 255.255.255.254"),
        ("broadcast (255.255.255.255)", "255.255.255.255"),
        ("cloud metadata (169.254.169.254)", "169.254.169.254"),
        ("cloud metadata (169.254.170.2)", "169.254.170.2"),
        ("cloud metadata (100.100.100.200)", "100.100.100.200"),
        ("cloud metadata (168.63.129.16)", "168.63.129.16"),
        ("cloud metadata (192.0.0.192)", "192.0.0.192"),
        ("cloud metadata (fd00:ec2::254)", "fd00:ec2::254"),
        ("cloud metadata (fd20:ce::254)", "fd20:ce::254"),
        ("unspecified (::)", "::"),
        ("loopback (::1)", "::1"),
        ("unique local (fc00::/7)", "fc00:: fd00::1 fdff:ffff::"),
        ("link-local (fe80::/10)", "fe80::1 febf::1"),
        ("site-local (fec0::/10)", "fec0::1 feff::1"),
        ("multicast (ff00::/8)", "ff02::1 ff0e::1"),
        ("documentation (2001:db8::/32)", "2001:db8::1"),
        ("documentation (3fff::/20)", "3fff::1 3fff:fff::1"),
        ("benchmarking (2001:2::/48)", "2001:2::1"),
        ("reserved (2001::/23)", "2001:1::1 2001:10::1 2001:20::1 2001:1ff::1"),
        ("discard-only (100::/64)", "100::1"),
        ("local NAT64 (64:ff9b:1::/48)", "64:ff9b:1::1"),
        ("IPv4-compatible (::/96)", "::2 ::8.8.8.8"),
        ("IPv4-translated (::ffff:0:0:0/96)", "::ffff:0:808:808"),
        ("reserved (::/0)", "100:0:0:1::1 5f00::1 4000::1 e000::1 200::1 64:ff9c::1"),
    ],
)
def test_an_address_that_is_not_public_has_a_kind(kind: str, addresses: str) -> None:
    for address in addresses.split():
        assert str(special_kind(ipaddress.ip_address(address))) == kind


@pytest.mark.parametrize(
    "addresses",
    [
        "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0",
        "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0",
        "168.63.129.15 168.63.129.17 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255",
        "2000::1 2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00:1450::1 2001:db9::1 2620:4f:8000::1 3ffe::1",
        "2002:808:808::1 2001:0:808:808::f7f7:f7f7",
    ],
)
def test_public_addresses_up_to_the_edges_of_the_others_have_none(addresses: str) -> None:
    for address in addresses.split():
        assert special_kind(ipaddress.ip_address(address)) is None, address


@given(st.ip_addresses())
def test_no_address_is_public_that_the_standard_library_takes_for_none(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """It knows fewer kinds, and an address within IPv6 it does not look at."""
    if special_kind(address) is None and reached(address) == (address,):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses())
def test_what_an_address_leads_to_is_found_in_few_steps(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert 1 <= len(reached(address)) <= 8
    assert set(reached(address)) | {address} <= set(perhaps_reached(address))


def test_the_narrowest_network_is_found() -> None:
    texts = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "::/128")
    table = NetworkTable((ipaddress.ip_network(text), text) for text in texts)
    for address, network in [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.4", "10.1.0.0/16"),
        ("10.2.2.4", "10.0.0.0/8"),
        ("9.0.0.0", "0.0.0.0/0"),
        ("::", "::/128"),
        ("::1", "::/0"),
    ]:
        assert table.find(ipaddress.ip_address(address)) == network
    assert NetworkTable([(ipaddress.ip_network("10.0.0.0/8"), 1)]).find(ipaddress.ip_address("::a00:1")) is None
