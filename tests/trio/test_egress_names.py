"""Names are judged by what one lookup finds, and what it has not found is never connected to."""

from __future__ import annotations

import pytest
import trio
from dns_server import DnsServer, dns
from egress_world import RefusedSockets, only, sending, upstream_at
from http_upstream import Peer, hello, start_upstream

from connector_sdk.wire import ErrorClass
from vastar_runtime.config.policy import EgressPolicy, RetryPolicy
from vastar_runtime.errors import EgressDenied
from vastar_runtime.http.addresses import MAX_ADDRESSES
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import Origin

__all__ = ["dns"]

RETRIES = RetryPolicy(max_retries=1, first_backoff_ms=1)


async def once(peer: Peer) -> None:
    """One answer, and the end of the connection: the next request has to be dialed for."""
    await peer.request()
    await peer.answer(b"hello", headers="Connection: close\r\n")


# --- one lookup ---


async def test_a_name_that_is_rebound_is_judged_anew_at_each_dial_and_looked_up_once_for_it(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    """127.0.0.1 is in the place of a public address here, and 127.0.0.2 in that of a private one."""
    allowed = await start_upstream(nursery, once)
    denied = await upstream_at("127.0.0.2", nursery, hello, port=allowed.port)
    dns.names["rebound.example"] = ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"]
    url = allowed.url(host="rebound.example")
    async with sending(only("127.0.0.1/32")) as world:
        for number in (1, 2, 3, 4):
            result = await world.send(url=url)
            if number % 2:
                assert result.body == "hello"
            else:
                assert result.message == (
                    f"egress denies http://rebound.example:{allowed.port} (127.0.0.2): "
                    'it is loopback (127.0.0.0/8), and egress.private is "deny"'
                )
            assert dns.lookups["rebound.example"] == number
    assert (allowed.connections, denied.connections) == (2, 0)


async def test_an_answer_that_was_public_is_connected_to_though_the_next_one_would_be_this_machine(
    nursery: trio.Nursery, dns: DnsServer
) -> None:
    upstream = await start_upstream(nursery, hello)
    dns.names["rebound.example"] = ["93.184.216.34", "127.0.0.1"]
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url=upstream.url(host="rebound.example"))
        assert result.error_class is ErrorClass.TRANSIENT  # nobody is there, in a test
        assert sockets.asked == [("93.184.216.34", upstream.port)]
        assert dns.lookups["rebound.example"] == 1
        result = await world.send(url=upstream.url(host="rebound.example"))
        assert "(127.0.0.1): it is loopback" in result.message
    assert sockets.asked == [("93.184.216.34", upstream.port)]
    assert upstream.connections == 0


async def test_a_retry_is_judged_as_the_first_attempt_was(nursery: trio.Nursery, dns: DnsServer) -> None:
    async def busy(peer: Peer) -> None:
        await peer.request()
        await peer.answer(status=503, headers="Connection: close\r\nRetry-After: 0\r\n")

    upstream = await start_upstream(nursery, busy)
    denied = await upstream_at("127.0.0.2", nursery, hello, port=upstream.port)
    dns.names["rebound.example"] = ["127.0.0.1", "127.0.0.2"]
    async with sending(only("127.0.0.1/32"), retry=RETRIES) as world:
        result = await world.send(url=upstream.url(host="rebound.example"))
        assert result.error_class is ErrorClass.PERMANENT
        assert "(127.0.0.2): it is loopback" in result.message
        world.nothing_is_held()
    assert (upstream.connections, denied.connections) == (1, 0)


async def test_what_takes_the_place_of_a_connection_that_died_is_judged(nursery: trio.Nursery, dns: DnsServer) -> None:
    closes = trio.Event()

    async def dies(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await peer.request()  # and is gone without an answer
        closes.set()

    upstream = await start_upstream(nursery, dies)
    denied = await upstream_at("127.0.0.2", nursery, hello, port=upstream.port)
    dns.names["rebound.example"] = ["127.0.0.1", "127.0.0.2"]
    url = upstream.url(host="rebound.example")
    async with sending(only("127.0.0.1/32")) as world:
        assert (await world.send(url=url)).body == "hello"
        result = await world.send(url=url)
        assert closes.is_set()
        assert "(127.0.0.2): it is loopback" in result.message
    assert (upstream.connections, denied.connections) == (1, 0)


# --- several addresses ---


async def test_of_several_addresses_only_those_are_tried_that_are_allowed(dns: DnsServer) -> None:
    dns.names["mixed.example"] = ["10.0.0.1 8.8.8.8 127.0.0.1 9.9.9.9 fd00::1 2606:4700::1111 ::ffff:169.254.169.254"]
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url="http://mixed.example:81/")
    assert result.message == "HTTP request failed: cannot connect to mixed.example:81: Connection refused"
    assert sockets.asked == [("8.8.8.8", 81), ("2606:4700::1111", 81), ("9.9.9.9", 81)]
    assert dns.lookups["mixed.example"] == 1


async def test_if_none_is_allowed_the_first_is_named(dns: DnsServer) -> None:
    dns.names["inside.example"] = ["10.0.0.1 192.168.0.1 ::1"]
    sockets = RefusedSockets()
    async with sending() as world:
        result = await world.send(url="https://inside.example/")
    assert result.message == (
        'egress denies https://inside.example (10.0.0.1): it is private (10.0.0.0/8), and egress.private is "deny"'
    )
    assert (sockets.asked, result.attempts) == ([], 1)


async def test_the_one_that_is_allowed_answers_where_the_first_is_not(nursery: trio.Nursery, dns: DnsServer) -> None:
    upstream = await start_upstream(nursery, hello)
    denied = await upstream_at("127.0.0.2", nursery, hello, port=upstream.port)
    dns.names["mixed.example"] = ["127.0.0.2 127.0.0.1"]
    async with sending(EgressPolicy(deny=("127.0.0.2/32",))) as world:
        assert (await world.send(url=upstream.url(host="mixed.example"))).body == "hello"
    assert (upstream.connections, denied.connections) == (1, 0)


async def test_a_name_found_at_very_many_addresses_is_not_tried_at_all_of_them(dns: DnsServer) -> None:
    dns.names["many.example"] = [" ".join(f"9.9.{number}.1" for number in range(MAX_ADDRESSES + 100))]
    sockets = RefusedSockets()
    async with sending() as world:
        await world.send(url="http://many.example/")
    assert len(sockets.asked) == MAX_ADDRESSES


async def test_a_name_that_is_not_found_is_no_matter_of_egress(dns: DnsServer) -> None:
    async with sending() as world:
        result = await world.send(url="http://nowhere.example/")
    assert result.error_class is ErrorClass.TRANSIENT
    assert result.message == ("HTTP request failed: DNS lookup of nowhere.example:80 failed: Name or service not known")


async def test_a_name_that_rules_of_origins_close_is_not_looked_up(dns: DnsServer) -> None:
    dns.names["a.example"] = ["8.8.8.8"]
    for egress in (EgressPolicy(deny=("http://*.example",), private="deny"), EgressPolicy(allow=("https://*",))):
        async with sending(egress) as world:
            assert (await world.send(url="http://a.example/")).error_class is ErrorClass.PERMANENT
    assert dns.lookups == {}


# --- the socket has the last word ---


class AllowsTheFirst:
    """Changes its mind between the lookup and the connection."""

    def __init__(self) -> None:
        self.judged: list[str] = []

    def refusal(self, origin: str, address: str) -> str | None:
        self.judged.append(address)
        return None if len(self.judged) == 1 else f"no longer {address}"


async def test_the_peers_own_address_is_judged_before_anything_is_sent(nursery: trio.Nursery, dns: DnsServer) -> None:
    received: list[bytes] = []
    gone = trio.Event()

    async def script(peer: Peer) -> None:
        received.append(bytes(await peer.stream.receive_some()))
        gone.set()

    upstream = await start_upstream(nursery, script)
    dns.names["a.example"] = ["127.0.0.1"]
    guard = AllowsTheFirst()
    with pytest.raises(EgressDenied, match=r"no longer 127\.0\.0\.1"):
        await Dialer(Proxies({})).dial(Origin("http", "a.example", upstream.port), guard=guard)
    assert guard.judged == ["127.0.0.1", "127.0.0.1"]
    await gone.wait()
    assert received == [b""]


@pytest.mark.parametrize("host", ["a.example", "127.0.0.1", "0.0.0.0"])
async def test_a_connection_knows_where_it_leads(nursery: trio.Nursery, dns: DnsServer, host: str) -> None:
    upstream = await start_upstream(nursery, hello)
    dns.names["a.example"] = ["127.0.0.1"]
    connection = await Dialer(Proxies({})).dial(Origin("http", host, upstream.port))
    assert connection.address == "127.0.0.1"
    await connection.close()
