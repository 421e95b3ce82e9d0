"""Behind a proxy: where addresses are judged, the proxy is told which one to connect to."""

from __future__ import annotations

import pytest
import trio
from dns_server import DnsServer, dns
from egress_world import PRIVATE, only, sending
from http_upstream import Peer, Script, Upstream, client_tls, hello, server_tls, start_upstream, tunnel_to

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import EgressPolicy, Policy

__all__ = ["dns"]


def through(proxy: Upstream) -> dict[str, str]:
    return {"all_proxy": f"http://user:s3cr3t@127.0.0.1:{proxy.port}"}


def asked(proxy: Upstream) -> list[tuple[str, str, str | None]]:
    return [(request.method, request.target, request.header("host")) for request in proxy.requests]


async def test_https_is_tunnelled_to_the_address_that_was_judged(nursery: trio.Nursery, dns: DnsServer) -> None:
    """The certificate is the name's still."""
    dns.names["secure.example"] = ["10.0.0.1 8.8.8.8", "127.0.0.1"]
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    async with sending(environ=through(proxy), tls=client_tls()) as world:
        for _ in range(2):
            assert (await world.send(url="https://secure.example/path")).body == "hello"
    assert asked(proxy) == [("CONNECT", "8.8.8.8:443", "8.8.8.8:443")]
    assert proxy.requests[0].header("proxy-authorization") == "Basic dXNlcjpzM2NyM3Q="
    assert [(request.target, request.header("host")) for request in upstream.requests] == [
        ("/path", "secure.example")
    ] * 2
    assert dns.lookups["secure.example"] == 1


async def test_plain_http_is_tunnelled_too(nursery: trio.Nursery, dns: DnsServer) -> None:
    dns.names["plain.example"] = ["2606:4700::1111"]
    upstream = await start_upstream(nursery, hello)
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    async with sending(environ=through(proxy)) as world:
        for _ in range(2):
            assert (await world.send(url="http://plain.example:81/path?query")).body == "hello"
    assert asked(proxy) == [("CONNECT", "[2606:4700::1111]:81", "[2606:4700::1111]:81")]
    assert [(request.target, request.header("host")) for request in upstream.requests] == [
        ("/path?query", "plain.example:81")
    ] * 2
    assert {request.header("proxy-authorization") for request in upstream.requests} == {None}


async def test_where_no_rule_is_about_addresses_the_proxy_looks_names_up_as_before(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    tunnel = await start_upstream(nursery, tunnel_to(upstream.port))
    proxy = await start_upstream(nursery, hello)
    environ = {"http_proxy": f"127.0.0.1:{proxy.port}", "https_proxy": f"127.0.0.1:{tunnel.port}"}
    policy = EgressPolicy(allow=("*://*.example",), deny=("http://other.example",))
    async with sending(policy, environ=environ, tls=client_tls()) as world:
        assert (await world.send(url="http://plain.example/path")).body == "hello"
        assert (await world.send(url="https://secure.example/")).body == "hello"
        denied = await world.send(url="http://other.example/")
        assert denied.message == 'egress denies http://other.example: it matches "http://other.example" of egress.deny'
    assert asked(proxy) == [("GET", "http://plain.example/path", "plain.example")]
    assert asked(tunnel) == [("CONNECT", "secure.example:443", "secure.example:443")]
    assert dns.lookups == {}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:169.254.169.254]", "inside.example"])
async def test_what_is_denied_does_not_reach_the_proxy(
    nursery: trio.Nursery, dns: DnsServer, scheme: str, host: str
) -> None:
    """The proxy's own address is not judged: 127.0.0.1 would be denied."""
    dns.names["inside.example"] = ["10.0.0.1"]
    proxy = await start_upstream(nursery, hello)
    async with sending(environ=through(proxy)) as world:
        result = await world.send(url=f"{scheme}://{host}/")
        assert result.error_class is ErrorClass.PERMANENT
        assert result.message.startswith(f"egress denies {scheme}://")
    assert proxy.connections == 0


async def test_a_redirect_behind_a_proxy_is_judged(nursery: trio.Nursery, dns: DnsServer) -> None:
    async def redirects(peer: Peer) -> None:
        await peer.request()
        await peer.answer(status=302, headers="Location: http://inside.example/\r\n")

    dns.names |= {"plain.example": ["8.8.8.8"], "inside.example": ["169.254.169.254"]}
    upstream = await start_upstream(nursery, redirects)
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    async with sending(environ=through(proxy)) as world:
        result = await world.send(url="http://plain.example/")
        assert result.message == (
            "egress denies http://inside.example (169.254.169.254): "
            'it is cloud metadata (169.254.169.254), and egress.private is "deny"'
        )
    assert len(proxy.requests) == 1


async def test_a_name_that_only_the_proxy_knows_cannot_be_judged(nursery: trio.Nursery, dns: DnsServer) -> None:
    proxy = await start_upstream(nursery, hello)
    async with sending(environ=through(proxy)) as world:
        result = await world.send(url="http://behind.example/")
        assert result.error_class is ErrorClass.TRANSIENT
        assert result.message == (
            "HTTP request failed: DNS lookup of behind.example:80 failed: Name or service not known; "
            "egress rules about addresses need it"
        )
    assert proxy.connections == 0


def refusing(status: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return script


async def test_a_further_address_is_asked_for_where_the_proxy_does_not_reach_the_first(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    dns.names["plain.example"] = ["8.8.8.8 10.0.0.1 9.9.9.9 2606:4700::1111"]
    upstream = await start_upstream(nursery, hello)
    proxy = await start_upstream(nursery, refusing("503 No route"), tunnel_to(upstream.port))
    async with sending(environ=through(proxy)) as world:
        assert (await world.send(url="http://plain.example/")).body == "hello"
    assert [request.target for request in proxy.requests] == ["8.8.8.8:80", "9.9.9.9:80"]


@pytest.mark.parametrize(
    ("status", "error_class"),
    [("502 Bad Gateway", ErrorClass.TRANSIENT), ("403 Forbidden", ErrorClass.PERMANENT)],
)
async def test_a_refusal_of_all_addresses_names_the_last_and_whose_it_is(
    nursery: trio.Nursery, dns: DnsServer, status: str, error_class: ErrorClass
) -> None:
    dns.names["plain.example"] = ["8.8.8.8 9.9.9.9"]
    proxy = await start_upstream(nursery, refusing(status))
    async with sending(environ=through(proxy)) as world:
        result = await world.send(url="http://plain.example/")
    assert result.error_class is error_class
    assert result.message == (
        f"HTTP request failed: the proxy 127.0.0.1:{proxy.port} refused CONNECT to 9.9.9.9:80 "
        f"for plain.example:80: {status}"
    )
    assert [request.target for request in proxy.requests] == ["8.8.8.8:80", "9.9.9.9:80"]


async def hanging(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def closing(peer: Peer) -> None:
    await peer.request()


@pytest.mark.parametrize("first", [hanging, closing], ids=["hangs", "closes"])
async def test_a_proxy_that_does_not_get_through_to_one_address_is_asked_for_the_next_in_time(
    nursery: trio.Nursery, dns: DnsServer, monkeypatch: pytest.MonkeyPatch, first: Script
) -> None:
    monkeypatch.setattr("vastar_runtime.http.dial.ATTEMPT_S", 0.05)
    dns.names["plain.example"] = ["8.8.8.8 9.9.9.9"]
    upstream = await start_upstream(nursery, hello)
    proxy = await start_upstream(nursery, first, tunnel_to(upstream.port))
    async with sending(environ=through(proxy)) as world:
        assert (await world.send(url="http://plain.example/")).body == "hello"


async def test_a_tunnel_whose_end_nobody_knows_is_not_used_once_addresses_are_judged(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    dns.names["secure.example"] = ["8.8.8.8"]
    upstream = await start_upstream(nursery, hello, tls=server_tls("secure.example"))
    proxy = await start_upstream(nursery, tunnel_to(upstream.port))
    async with sending(EgressPolicy(), environ=through(proxy), tls=client_tls()) as world:
        for egress, tunnels in ((EgressPolicy(), 1), (PRIVATE, 2), (EgressPolicy(deny=("10.0.0.0/8",)), 2)):
            settings = Settings(policy=Policy(egress=egress))
            await world.pipeline.configure(settings, Policies(settings))
            for _ in range(2):
                assert (await world.send(url="https://secure.example/")).body == "hello"
            assert proxy.connections == tunnels
    assert [request.target for request in proxy.requests] == ["secure.example:443", "8.8.8.8:443"]


async def test_around_a_proxy_the_origin_is_judged_as_without_one(nursery: trio.Nursery, dns: DnsServer) -> None:
    upstream = await start_upstream(nursery, hello)
    dns.names["inside.example"] = ["127.0.0.1"]
    environ = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.0/8,inside.example"}
    async with sending(only("127.0.0.1/32"), environ=environ) as world:
        assert (await world.send(url=upstream.url())).body == "hello"
        assert (await world.send(url=f"http://0x7f.1:{upstream.port}/")).body == "hello"
    async with sending(environ=environ) as world:
        assert (await world.send(url=upstream.url(host="inside.example"))).error_class is ErrorClass.PERMANENT
