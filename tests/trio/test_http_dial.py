"""Opening a connection: what can go wrong before the first byte of HTTP, in words that name the peer."""

from __future__ import annotations

import socket
import ssl
from functools import partial

import pytest
import trio
from http_upstream import (
    IDLE,
    Peer,
    Resolver,
    client_tls,
    hello,
    start_client,
    start_upstream,
)
from trio.testing import MockClock

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import parse_url

DIRECT = Proxies({})


async def failure(url: str, tls: ssl.SSLContext | None = None) -> UpstreamError:
    """The error of dialing; DNS and TCP are real."""
    with pytest.raises(UpstreamError) as caught:
        await Dialer(DIRECT, lambda: tls or client_tls()).dial(parse_url(url).origin)
    assert caught.value.message.startswith("HTTP request failed: ")
    assert "\n" not in caught.value.message
    return caught.value


class HangingSocket(trio.socket.SocketType):
    """A TCP socket whose peer never answers."""

    def __init__(self, family: int, type: int, proto: int) -> None:
        self._socket = socket.socket(family, type, proto)
        self.is_connecting = self.is_closed = False

    def setsockopt(self, *args: object) -> None:
        pass

    async def connect(self, address: object) -> None:
        self.is_connecting = True
        await trio.sleep_forever()

    def close(self) -> None:
        self.is_closed = True
        self._socket.close()


class HangingSockets(trio.abc.SocketFactory):
    def __init__(self) -> None:
        self.made: list[HangingSocket] = []

    def socket(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0) -> HangingSocket:
        self.made.append(HangingSocket(family, type, proto))
        return self.made[-1]


def unused_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return reserved.getsockname()[1]


# --- DNS and TCP ---


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_connection_names_host_port_and_cause(scheme: str) -> None:
    port = unused_port()
    error = await failure(f"{scheme}://127.0.0.1:{port}/")
    assert error.error_class is ErrorClass.TRANSIENT
    assert error.message == f"HTTP request failed: cannot connect to 127.0.0.1:{port}: Connection refused"


async def test_several_addresses_that_refuse_are_one_error() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1", "127.0.0.2"))
    port = unused_port()
    error = await failure(f"http://two.example:{port}/")
    assert error.message == f"HTTP request failed: cannot connect to two.example:{port}: Connection refused"


async def test_the_second_address_is_tried_when_the_first_refuses(nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.2", "127.0.0.1"))
    client = start_client(nursery)
    assert (await client.fetch(upstream.url(host="two.example"))).body == b"hello"
    assert upstream.requests[0].header("host") == f"two.example:{upstream.port}"


async def test_an_unknown_name_is_named() -> None:
    error = await failure("http://no-such-host.invalid/")
    assert error.error_class is ErrorClass.TRANSIENT
    assert error.message.startswith("HTTP request failed: DNS lookup of no-such-host.invalid:80 failed: ")


async def test_an_internationalised_name_is_looked_up_in_its_ascii_form() -> None:
    resolver = Resolver("127.0.0.1")
    trio.socket.set_custom_hostname_resolver(resolver)
    await failure(f"http://bücher.example:{unused_port()}/")
    assert resolver.asked == [b"xn--bcher-kva.example"]


async def test_an_ipv6_address_is_named_with_its_brackets() -> None:
    error = await failure("http://[::1]:1/")
    assert error.message.startswith("HTTP request failed: cannot connect to [::1]:1: ")


async def test_a_connection_that_does_not_open_is_given_up_after_ten_seconds(autojump_clock: MockClock) -> None:
    sockets = HangingSockets()
    trio.socket.set_custom_socket_factory(sockets)
    began = trio.current_time()
    error = await failure("http://127.0.0.1:81/")
    assert trio.current_time() - began == pytest.approx(10.0)
    assert error.error_class is ErrorClass.TIMEOUT
    assert (
        error.message
        == "HTTP request failed: connecting to 127.0.0.1:81 took longer than 10 s (deadline.connect_timeout_ms)"
    )
    assert [made.is_closed for made in sockets.made] == [True]


async def test_the_ten_seconds_hold_for_all_addresses_together(autojump_clock: MockClock) -> None:
    sockets = HangingSockets()
    trio.socket.set_custom_socket_factory(sockets)
    trio.socket.set_custom_hostname_resolver(Resolver("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    began = trio.current_time()
    await failure("http://three.example/")
    assert trio.current_time() - began == pytest.approx(10.0)
    assert [made.is_closed for made in sockets.made] == [True] * 3


async def test_a_handshake_that_never_comes_is_given_up_too(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    upstream = await start_upstream(nursery, silent)
    errors: list[UpstreamError] = []

    async def dial() -> None:
        errors.append(await failure(f"https://127.0.0.1:{upstream.port}/"))

    async with trio.open_nursery() as dialing:
        dialing.start_soon(dial)
        while not upstream.open_connections:
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10.1)
    assert errors[0].error_class is ErrorClass.TIMEOUT
    while upstream.open_connections:
        await trio.testing.wait_all_tasks_blocked()


async def test_a_cancelled_connect_closes_its_socket(nursery: trio.Nursery) -> None:
    sockets = HangingSockets()
    trio.socket.set_custom_socket_factory(sockets)
    client = start_client(nursery)
    async with trio.open_nursery() as requests:
        requests.start_soon(partial(client.fetch, "http://127.0.0.1:81/"))
        while not (sockets.made and sockets.made[0].is_connecting):
            await trio.testing.wait_all_tasks_blocked()
        assert client.pool.statistics().active == 1
        requests.cancel_scope.cancel()
    assert [made.is_closed for made in sockets.made] == [True]
    assert client.pool.statistics() == IDLE
