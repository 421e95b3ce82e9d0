"""Every hop of a redirect is judged as if it had been asked for."""

from __future__ import annotations

import ssl

import pytest
import trio
from dns_server import DnsServer, dns
from egress_world import only, sending, upstream_at
from http_upstream import Peer, Script, client_tls, hello, server_tls, start_upstream

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Settings
from vastar_runtime.config.policy import EgressPolicy, Policy, Rate, RateLimitPolicy
from vastar_runtime.config.settings import Change, Scope

__all__ = ["dns"]

ONE = only("127.0.0.1/32")


def redirecting(*locations: str, status: int = 302) -> Script:
    """One redirect after another."""

    async def script(peer: Peer) -> None:
        for location in locations:
            await peer.request()
            await peer.answer(status=status, headers=f"Location: {location}\r\n")
        await peer.gone()

    return script


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://169.254.169.254/latest/meta-data/", "it is cloud metadata (169.254.169.254)"),
        ("//169.254.169.254/", "it is cloud metadata (169.254.169.254)"),
        ("http://2852039166/", "it is cloud metadata (169.254.169.254)"),
        ("http://[::ffff:a9fe:a9fe]/", "it leads to 169.254.169.254, which is cloud metadata (169.254.169.254)"),
        ("http://127.2/", "it is loopback (127.0.0.0/8)"),
        ("https://[::1]:8443/", "it is loopback (::1)"),
        ("http://inside.example/", "it is private (10.0.0.0/8)"),
        ("http://localhost.example/", "it is loopback (::1)"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_inside_is_denied(
    nursery: trio.Nursery, dns: DnsServer, location: str, why: str, status: int
) -> None:
    dns.names |= {"inside.example": ["10.0.0.1"], "localhost.example": ["::1"]}
    upstream = await start_upstream(nursery, redirecting(location, status=status))
    async with sending(ONE) as world:
        result = await world.send("POST", url=upstream.url(), body="x")
        assert result.error_class is ErrorClass.PERMANENT
        assert result.message.startswith("egress denies http")
        assert result.message.endswith(f'{why}, and egress.private is "deny"')
        world.nothing_is_held()
    assert len(upstream.requests) == 1


async def test_a_redirect_to_what_is_allowed_is_followed(nursery: trio.Nursery, dns: DnsServer) -> None:
    last = await start_upstream(nursery, hello)
    dns.names["a.example"] = ["127.0.0.1"]
    first = await start_upstream(nursery, redirecting(last.url(host="a.example")))
    async with sending(ONE) as world:
        assert (await world.send(url=first.url())).body == "hello"


async def test_a_redirect_to_a_name_that_was_rebound_meanwhile(nursery: trio.Nursery, dns: DnsServer) -> None:
    """Back to the very origin that it came from, whose connection was not kept."""
    dns.names["a.example"] = ["127.0.0.1", "127.0.0.2"]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(status=302, headers="Location: /again\r\nConnection: close\r\n")

    upstream = await start_upstream(nursery, script)
    inside = await upstream_at("127.0.0.2", nursery, hello, port=upstream.port)
    async with sending(ONE) as world:
        result = await world.send(url=upstream.url(host="a.example"))
        assert "(127.0.0.2): it is loopback" in result.message
    assert inside.connections == 0


async def test_a_redirect_from_https_to_http_is_judged_by_its_own_scheme(nursery: trio.Nursery) -> None:
    tls: ssl.SSLContext = server_tls("127.0.0.1")
    plain = await start_upstream(nursery, hello)
    secure = await start_upstream(nursery, redirecting(plain.url(), plain.url("/2")), tls=tls)
    async with sending(EgressPolicy(allow=("https://127.0.0.1:*",)), tls=client_tls()) as world:
        result = await world.send(url=secure.url())
        assert result.message == f"egress denies http://127.0.0.1:{plain.port}: it is not in egress.allow"
    async with sending(EgressPolicy(), tls=client_tls()) as world:
        assert (await world.send(url=secure.url())).body == "hello"


async def test_each_hop_has_the_egress_of_its_own_scope(nursery: trio.Nursery) -> None:
    """What lets the first origin's requests go anywhere lets no redirect of it do so."""
    last = await start_upstream(nursery, hello)
    first = await start_upstream(nursery, redirecting(last.url(), last.url()))
    lenient = Scope(origin=f"http://127.0.0.1:{first.port}", changes=(Change("egress", "private", "allow"),))
    settings = Settings(policy=Policy(egress=EgressPolicy(private="deny")), scopes=(lenient,))
    async with sending(settings=settings) as world:
        result = await world.send(url=first.url())
        assert result.message.startswith(f"egress denies http://127.0.0.1:{last.port}: it is loopback")
    assert (len(first.requests), last.connections) == (1, 0)


async def test_a_denied_hop_costs_no_token_and_those_before_it_do(nursery: trio.Nursery) -> None:
    first = await start_upstream(nursery, redirecting(*["http://10.0.0.1/"] * 9))
    limit = RateLimitPolicy(per_tenant=Rate(3, 3600))
    async with sending(settings=Settings(policy=Policy(egress=ONE, rate_limit=limit))) as world:
        for _ in range(3):
            assert (await world.send(url=first.url())).message.startswith("egress denies http://10.0.0.1: ")
        assert (await world.send(url=first.url())).error_class is ErrorClass.RATE_LIMITED
    assert len(first.requests) == 3
