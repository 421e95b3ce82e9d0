"""However an address is written, it is the same address: from a client's URL to the socket."""

from __future__ import annotations

import pytest
import trio
from egress_world import RefusedSockets, only, sending
from http_upstream import hello, start_upstream

from connector_sdk.wire import ErrorClass

LOOPBACK = "it is loopback (127.0.0.0/8)"
TO_LOOPBACK = "it leads to 127.0.0.1, which is loopback (127.0.0.0/8)"
METADATA = "it is cloud metadata (169.254.169.254)"
TO_METADATA = "it leads to 169.254.169.254, which is cloud metadata (169.254.169.254)"
ADDRESS = "IPv4 address"
NAME = "host name"

SPELLINGS = {
    # --- dotted decimal, and other places that are not public ---
    "127.0.0.1": LOOPBACK,
    "127.255.255.254": LOOPBACK,
    "127.0.0.1.": LOOPBACK,
    "169.254.169.254": METADATA,
    "169.254.169.254.": METADATA,
    "10.0.0.1": "it is private (10.0.0.0/8)",
    "172.16.0.1": "it is private (172.16.0.0/12)",
    "192.168.1.1": "it is private (192.168.0.0/16)",
    "100.64.0.1": "it is carrier-grade NAT (100.64.0.0/10)",
    "100.100.100.200": "it is cloud metadata (100.100.100.200)",
    "168.63.129.16": "it is cloud metadata (168.63.129.16)",
    "192.0.0.192": "it is cloud metadata (192.0.0.192)",
    "0.0.0.0": "it is this network (0.0.0.0/8)",
    "224.0.0.1": "it is multicast (224.0.0.0/4)",
    "255.255.255.255": "it is broadcast (255.255.255.255)",
    "240.0.0.1": "it is reserved (240.0.0.0/4)",
    "198.18.0.1": "it is benchmarking (198.18.0.0/15)",
    "203.0.113.1": "it is documentation (203.0.113.0/24)",
    # --- one number ---
    "2130706433": LOOPBACK,
    "2130706433.": LOOPBACK,
    "2852039166": METADATA,
    "0x7f000001": LOOPBACK,
    "0X7F000001": LOOPBACK,
    "0xA9FEA9FE": METADATA,
    "017700000001": LOOPBACK,
    "025177524776": METADATA,
    "00000000000000000000177.1": LOOPBACK,
    "0": "it is this network (0.0.0.0/8)",
    "0x": "it is this network (0.0.0.0/8)",
    # --- fewer than four, and of different kinds ---
    "127.1": LOOPBACK,
    "127.0.1": LOOPBACK,
    "127.1.": LOOPBACK,
    "0177.1": LOOPBACK,
    "0x7f.1": LOOPBACK,
    "0177.0.0.01": LOOPBACK,
    "0x7f.0x0.0x0.0x1": LOOPBACK,
    "0x7f.000.0x.1": LOOPBACK,
    "169.254.43518": METADATA,
    "169.16689662": METADATA,
    "0xa9.0376.0xa9fe": METADATA,
    # --- characters that are mapped ---
    "１２７.０.０.１": LOOPBACK,
    "①②⑦.⓪.⓪.①": LOOPBACK,
    "127。0。0。1": LOOPBACK,
    "127．0．0．1": LOOPBACK,
    "127.0.0.1。": LOOPBACK,
    "𝟭𝟮𝟳.𝟬.𝟬.𝟭": LOOPBACK,
    "127.0.\u200b0.1": LOOPBACK,
    "1\u00ad27.0.0.1": LOOPBACK,
    "０ｘ７ｆ.１": LOOPBACK,
    # --- IPv6 ---
    "[::1]": "it is loopback (::1)",
    "[0:0:0:0:0:0:0:1]": "it is loopback (::1)",
    "[0000::0001]": "it is loopback (::1)",
    "[::]": "it is unspecified (::)",
    "[fe80::1]": "it is link-local (fe80::/10)",
    "[FE80::A9FE:A9FE]": "it is cloud metadata (fe80::a9fe:a9fe)",
    "[fd00:ec2::254]": "it is cloud metadata (fd00:ec2::254)",
    "[FD00:0EC2:0::0254]": "it is cloud metadata (fd00:ec2::254)",
    "[fc00::1]": "it is unique local (fc00::/7)",
    "[fec0::1]": "it is site-local (fec0::/10)",
    "[ff02::1]": "it is multicast (ff00::/8)",
    "[2001:db8::1]": "it is documentation (2001:db8::/32)",
    "[100::1]": "it is discard-only (100::/64)",
    "[64:ff9b:1::808:808]": "it is local NAT64 (64:ff9b:1::/48)",
    # --- IPv4 inside ---
    "[::ffff:127.0.0.1]": TO_LOOPBACK,
    "[::FFFF:7F00:1]": TO_LOOPBACK,
    "[0:0:0:0:0:ffff:a9fe:a9fe]": TO_METADATA,
    "[::127.0.0.1]": "it is IPv4-compatible (::/96)",
    "[::a9fe:a9fe]": "it is IPv4-compatible (::/96)",
    "[::ffff:0:127.0.0.1]": "it is IPv4-translated (::ffff:0:0:0/96)",
    "[64:ff9b::127.0.0.1]": TO_LOOPBACK,
    "[64:FF9B::a9fe:a9fe]": TO_METADATA,
    "[2002:7f00:1::]": TO_LOOPBACK,
    "[2002:A9FE:A9FE::1]": TO_METADATA,
    "[2001:0:7f00:1::f7f7:f7f7]": TO_LOOPBACK,
    "[2001:0:808:808::80ff:fffe]": TO_LOOPBACK,
    "[2a00:1450::5efe:127.0.0.1]": TO_LOOPBACK,
    # --- what is no address, and no name ---
    "127.0.0.256": ADDRESS,
    "127.0.0.1.2": ADDRESS,
    "127.0.0.08": ADDRESS,
    "4294967297": ADDRESS,
    "18446744071545290753": ADDRESS,
    "0x17f000001": ADDRESS,
    "localhost.1": ADDRESS,
    "127.-0.0.1": ADDRESS,
    "+127.0.0.1": NAME,
    "127.0.0.1..": NAME,
    "127..0.0.1": NAME,
    "127.0.0.%31": NAME,
    "%31%32%37.0.0.1": NAME,
    "%6c%6f%63%61%6c%68%6f%73%74": NAME,
    "127.0.0.1%00.example.com": NAME,
    "127.0.0.1%2f.example.com": NAME,
    "[::1%25lo]": "IPv6 address",
    "[fe80::1%lo]": "IPv6 address",
    "[127.0.0.1]": "IPv6 address",
    "[::ffff:0x7f.1]": "IPv6 address",
    "[::ffff:127.0.0.01]": "IPv6 address",
}
assert len(SPELLINGS) > 60


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_an_address_that_is_not_public_gets_through(nursery: trio.Nursery, host: str) -> None:
    upstream = await start_upstream(nursery, hello)
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url=f"http://{host}:{upstream.port}/latest/meta-data/")
    why = SPELLINGS[host]
    if why.startswith("it "):
        assert result.error_class is ErrorClass.PERMANENT
        assert result.message.startswith("egress denies http://")
        assert result.message.endswith(f':{upstream.port}: {why}, and egress.private is "deny"')
    else:
        assert result.error_class is ErrorClass.INVALID_REQUEST
        assert result.message.startswith("malformed URL: ")
        assert why in result.message
    assert (upstream.connections, sockets.asked, result.attempts) == (0, [], 0)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("8.8.8.8.", "8.8.8.8"),
        ("134744072", "8.8.8.8"),
        ("010.8.2056", "8.8.8.8"),
        ("0x8080808", "8.8.8.8"),
        ("８.８.８.８", "8.8.8.8"),
        ("100.63.255.255", "100.63.255.255"),
        ("168.63.129.17", "168.63.129.17"),
        ("172.32.0.1", "172.32.0.1"),
        ("[2606:4700:4700::1111]", "2606:4700:4700::1111"),
        ("[64:ff9b::808:808]", "64:ff9b::808:808"),
        ("[2002:808:808::1]", "2002:808:808::1"),
        ("[2001:0:808:808::f7f7:f7f7]", "2001:0:808:808::f7f7:f7f7"),
    ],
)
async def test_a_public_address_is_connected_to(host: str, address: str) -> None:
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url=f"http://{host}:81/")
    assert result.error_class is ErrorClass.TRANSIENT
    assert result.message.startswith("HTTP request failed: cannot connect to ")
    assert result.message.endswith(":81: Connection refused")
    assert sockets.asked == [(address, 81)]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "ｌｏｃａｌｈｏｓｔ"])
async def test_the_systems_own_names_are_judged_by_their_addresses(nursery: trio.Nursery, host: str) -> None:
    """/etc/hosts is a way to look names up like any other."""
    upstream = await start_upstream(nursery, hello)
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url=f"http://{host}:{upstream.port}/")
    assert result.error_class is ErrorClass.PERMANENT
    assert result.message.startswith(f"egress denies http://localhost:{upstream.port} (")
    assert "): it is loopback (" in result.message
    assert (upstream.connections, sockets.asked) == (0, [])


async def test_an_exception_holds_however_its_address_is_written(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    for rule in ("127.0.0.1/32", f"http://127.0.0.1:{upstream.port}"):
        async with sending(only(rule)) as world:
            for host in ("127.0.0.1", "2130706433", "0x7f.1", "127.1.", "１２７.０.０.１"):
                result = await world.send(url=f"http://{host}:{upstream.port}/")
                assert result.body == "hello"
            denied = await world.send(url=f"http://127.2:{upstream.port}/")
            assert denied.message.startswith(f"egress denies http://127.0.0.2:{upstream.port}: {LOOPBACK}")
    assert {request.header("host") for request in upstream.requests} == {f"127.0.0.1:{upstream.port}"}
