"""Connections that were kept are judged by the settings of the moment, with a task and without one."""

from __future__ import annotations

import pytest
import trio
from dns_server import DnsServer, dns
from egress_world import only, sending
from http_upstream import IDLE, hello, start_upstream
from policed_session import Policed
from trio.testing import wait_all_tasks_blocked
from without_task import Tasks, over_sockets, tasks

from connector_sdk.wire import ErrorClass
from vastar_runtime.config import Policies, Settings
from vastar_runtime.config.policy import DeadlinePolicy, EgressPolicy, Policy
from vastar_runtime.http.pool import PoolKey
from vastar_runtime.http.prompt_connection import PromptConnection
from vastar_runtime.http.url import parse_url

__all__ = ["dns", "over_sockets", "tasks"]

OPEN = EgressPolicy()
CLOSED = EgressPolicy(deny=("127.0.0.1/32",))
WITHOUT_TASK = DeadlinePolicy()
WITH_TASK = DeadlinePolicy(first_byte_timeout_ms=20_000)  # which needs one to watch over it


async def reload(world: Policed, egress: EgressPolicy, deadline: DeadlinePolicy) -> None:
    settings = Settings(policy=Policy(egress=egress, deadline=deadline))
    await world.pipeline.configure(settings, Policies(settings))


@pytest.mark.parametrize("deadline", [WITHOUT_TASK, WITH_TASK], ids=["without a task", "with a task"])
async def test_a_reload_makes_a_connection_unusable_that_leads_where_it_may_no_longer(
    nursery: trio.Nursery, dns: DnsServer, deadline: DeadlinePolicy
) -> None:
    upstream = await start_upstream(nursery, hello)
    dns.names["a.example"] = ["127.0.0.1"]
    url = upstream.url(host="a.example")
    async with sending(OPEN) as world:
        await reload(world, OPEN, deadline)
        for _ in range(2):
            assert (await world.send(url=url)).body == "hello"
        await reload(world, CLOSED, deadline)
        for _ in range(2):
            denied = await world.send(url=url)
            assert denied.error_class is ErrorClass.PERMANENT
            assert denied.message == (
                f'egress denies http://a.example:{upstream.port} (127.0.0.1): it is in "127.0.0.1/32" of egress.deny'
            )
        assert world.pool.statistics() == IDLE  # it was closed
        assert (len(upstream.requests), upstream.connections) == (2, 1)
        await reload(world, OPEN, deadline)
        assert (await world.send(url=url)).body == "hello"
        assert upstream.connections == 2


@pytest.mark.parametrize("deadline", [WITHOUT_TASK, WITH_TASK], ids=["without a task", "with a task"])
async def test_a_reload_that_still_allows_it_keeps_the_connection(
    nursery: trio.Nursery, dns: DnsServer, deadline: DeadlinePolicy
) -> None:
    upstream = await start_upstream(nursery, hello)
    dns.names["a.example"] = ["127.0.0.1", "10.0.0.1"]
    async with sending(OPEN) as world:
        for egress in (OPEN, only("127.0.0.0/8"), EgressPolicy(deny=("10.0.0.0/8",))):
            await reload(world, egress, deadline)
            for _ in range(2):
                assert (await world.send(url=upstream.url(host="a.example"))).body == "hello"
    assert upstream.connections == 1
    assert dns.lookups["a.example"] == 1


async def test_a_request_over_a_judged_connection_needs_no_task(nursery: trio.Nursery, tasks: Tasks) -> None:
    upstream = await start_upstream(nursery, hello)
    async with sending(only("127.0.0.1/32")) as world:
        for _ in range(4):
            assert (await world.send(url=upstream.url())).body == "hello"
    assert (upstream.connections, tasks.count) == (1, 1)


async def test_of_several_connections_those_are_closed_that_may_not_be_used(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    """One leads nobody knows where; one to where it may."""
    upstream = await start_upstream(nursery, hello)
    dns.names["a.example"] = ["127.0.0.1"]
    url = upstream.url(host="a.example")
    async with sending(only("127.0.0.1/32")) as world:
        await world.send(url=url)
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", upstream.port)
            unknown = PromptConnection(stream, "unknown")
            world.pool.keep_idle(PoolKey("tenant", parse_url(url).origin), unknown)
        assert world.pool.statistics().idle == 4
        assert (await world.send(url=url)).body == "hello"
        assert world.pool.statistics().idle == 1
        while upstream.open_connections > 1:
            await wait_all_tasks_blocked()
    assert upstream.connections == 4
    assert dns.lookups["a.example"] == 1


async def test_a_request_that_began_before_a_reload_ends_as_it_began(nursery: trio.Nursery) -> None:
    go_on = trio.Event()

    async def waits(peer) -> None:
        await peer.request()
        await go_on.wait()
        await peer.answer(b"late")

    upstream = await start_upstream(nursery, waits)
    async with sending(OPEN) as world:
        await world.begin(url=upstream.url())
        while not upstream.requests:
            await wait_all_tasks_blocked()
        await reload(world, CLOSED, WITHOUT_TASK)
        go_on.set()
        assert (await world.result()).body == "late"
        assert (await world.send(url=upstream.url())).error_class is ErrorClass.PERMANENT
