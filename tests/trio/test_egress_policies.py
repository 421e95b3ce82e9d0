"""A request that is denied has cost its upstream nothing, and costs its tenant nothing: no token, no failure."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from dns_server import DnsServer, dns
from egress_world import PRIVATE, RefusedSockets, only, sending
from http_upstream import Resolver, hello, start_upstream
from policed_session import Policed, Result
from stream_client import end, stream_request
from trio.testing import MockClock

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import EgressPolicy, Policy, Rate, RateLimitPolicy, RetryPolicy
from vastar_runtime.config.settings import Change, Scope
from vastar_runtime.policies.circuit import State

__all__ = ["dns"]

NO_RETRIES = RetryPolicy(max_retries=0)
TWO_AN_HOUR = RateLimitPolicy(per_tenant=Rate(2, 3600))
WAYS = ["literal", "name"]


def place(dns: DnsServer, way: str, port: int) -> str:
    """127.0.0.1, as it is or under a name."""
    dns.names["inside.example"] = ["127.0.0.1"]
    return f"http://{'127.0.0.1' if way == 'literal' else 'inside.example'}:{port}"


class Moving(Resolver):
    """A name is found at each of these in turn, and then at the first again."""

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        found = await super().getaddrinfo(*args, **kwargs)
        return [found[(len(self.asked) - 1) % len(found)]]


async def denied(world: Policed, url: str, **fields: object) -> Result:
    result = await world.send(url=url, **fields)
    assert result.error_class is ErrorClass.PERMANENT, result
    assert result.message.startswith(f"egress denies {url}")
    assert result.retry_after_ms == 0
    return result


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_denied_takes_no_token_of_the_rate_limit(dns: DnsServer, way: str) -> None:
    sockets = RefusedSockets()
    policy = Policy(egress=PRIVATE, rate_limit=TWO_AN_HOUR, retry=NO_RETRIES)
    async with sending(settings=Settings(policy=policy)) as world:
        for _ in range(5):
            await denied(world, place(dns, way, 81))
        assert sockets.asked == []
        for _ in range(2):
            assert (await world.send(url="http://8.8.8.8/")).error_class is ErrorClass.TRANSIENT
        assert (await world.send(url="http://8.8.8.8/")).error_class is ErrorClass.RATE_LIMITED


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_denied_is_neither_a_failure_nor_a_success_of_its_origin(dns: DnsServer, way: str) -> None:
    RefusedSockets()
    async with sending(retry=RetryPolicy(max_retries=2, first_backoff_ms=1)) as world:
        for _ in range(10):
            assert (await denied(world, place(dns, way, 81))).attempts == (way == "name")
        statistics = world.pipeline.statistics()
        assert [circuit for circuit in statistics.circuit_breaker.circuits if circuit.failures] == []
        assert (statistics.retry.retried, statistics.retry.denied) == (0, 0)


async def test_a_denied_probe_leaves_the_circuit_to_the_next_one(autojump_clock: MockClock) -> None:
    """The name led to an upstream that failed, leads inside for a moment, and then back."""
    trio.socket.set_custom_hostname_resolver(Moving("8.8.8.8", "8.8.8.8", "8.8.8.8", "8.8.8.8", "8.8.8.8", "10.0.0.1"))
    RefusedSockets()
    async with sending() as world:
        for _ in range(5):
            await world.send(url="http://moves.example/")
        assert world.circuit("moves.example") is State.OPEN
        await trio.sleep(31)
        assert (await world.send(url="http://moves.example/")).message.startswith("egress denies")
        probe = await world.send(url="http://moves.example/")
        assert probe.message.startswith("HTTP request failed: cannot connect")
        assert world.circuit("moves.example") is State.OPEN


async def test_an_open_circuit_does_not_hide_that_an_origin_is_denied(nursery: trio.Nursery) -> None:
    RefusedSockets()
    async with sending(EgressPolicy()) as world:
        for _ in range(5):
            await world.send(url="http://127.0.0.1:81/")
        assert "circuit open" in (await world.send(url="http://127.0.0.1:81/")).message
        settings = Settings(policy=Policy(egress=PRIVATE))
        await world.pipeline.configure(settings, Policies(settings))
        await denied(world, "http://127.0.0.1:81")


async def test_each_tenant_and_each_origin_has_the_egress_of_its_scopes(nursery: trio.Nursery, dns: DnsServer) -> None:
    upstream = await start_upstream(nursery, hello)
    url = place(dns, "name", upstream.port)
    scopes = (
        Scope(tenant="open", changes=(Change("egress", "private", "allow"),)),
        Scope(tenant="closed", changes=(Change("egress", "allow", ("https://api.example",)),)),
        Scope(origin="http://inside.example:*", tenant="half", changes=(Change("egress", "private", "allow"),)),
    )
    async with sending(settings=Settings(policy=Policy(egress=PRIVATE), scopes=scopes)) as world:
        for _ in range(2):  # the second over a connection that was kept: by its own tenant only
            assert (await world.send(url=url, tenant_id="open")).body == "hello"
            assert (await world.send(url=url, tenant_id="half")).body == "hello"
            await denied(world, url, tenant_id="default")
            await denied(world, f"http://127.0.0.1:{upstream.port}", tenant_id="half")
            result = await denied(world, url, tenant_id="closed")
            assert result.message == f"egress denies {url}: it is not in egress.allow"


async def test_a_stream_that_is_denied_ends_before_it_begins(dns: DnsServer) -> None:
    for way in WAYS:
        async with sending(greets=True) as world:
            await world.client.send(stream_request(1, place(dns, way, 81)))
            last = await end(world.client)
            assert last.error_class is ErrorClass.PERMANENT
            assert last.error_message.startswith("egress denies ")


async def test_exceptions_reach_what_they_name(nursery: trio.Nursery, dns: DnsServer) -> None:
    upstream = await start_upstream(nursery, hello)
    async with sending(only(f"http://127.0.0.1:{upstream.port}")) as world:
        assert (await world.send(url=upstream.url())).body == "hello"
        await denied(world, f"http://127.0.0.1:{upstream.port + 1}")
        await denied(world, place(dns, "name", upstream.port))
    async with sending(only("127.0.0.1/32")) as world:
        assert (await world.send(url=upstream.url())).body == "hello"
        assert (await world.send(url=place(dns, "name", upstream.port))).body == "hello"
