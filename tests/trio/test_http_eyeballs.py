"""Several addresses of one name: tried in turn, and the first connection that opens is the one that is used."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from vastar_runtime.http.dial import Dialer
from vastar_runtime.http.proxy import Proxies
from vastar_runtime.http.url import Origin


class Slow(trio.socket.SocketType):
    """Connects after a while, and then says where to."""

    type = socket.SOCK_STREAM

    def __init__(self, sockets: SlowSockets, family: int) -> None:
        self._sockets = sockets
        self._socket = socket.socket(family)
        self.is_closed = False

    async def connect(self, place) -> None:
        self.place = place
        self._sockets.asked.append((place[0], trio.current_time()))
        await self._sockets.connects(place[0])

    def getpeername(self):
        return self.place

    def setsockopt(self, *args: object) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True
        self._socket.close()


class SlowSockets(trio.abc.SocketFactory):
    def __init__(self, connects: Callable[[str], Awaitable[None]]) -> None:
        self.connects = connects
        self.asked: list[tuple[str, float]] = []
        self.made: list[Slow] = []
        trio.socket.set_custom_socket_factory(self)

    def socket(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0) -> Slow:
        self.made.append(Slow(self, family))
        return self.made[-1]


class Names(trio.abc.HostnameResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.addresses
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise AssertionError("no story looks a name up backwards")


async def test_a_second_address_is_tried_when_the_first_is_slow_and_the_quicker_one_wins(
    autojump_clock: MockClock,
) -> None:
    takes_s = {"192.0.2.1": 10.0, "192.0.2.2": 10.0, "2001:db8::1": 0.3, "2001:db8::2": 0.1}

    async def connects(address: str) -> None:
        await trio.sleep(takes_s[address])

    trio.socket.set_custom_hostname_resolver(Names("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"))
    sockets = SlowSockets(connects)
    began = trio.current_time()
    connection = await Dialer(Proxies({})).dial(Origin("http", "slow.example", 80))
    assert connection.address == "2001:db8::1"
    assert [(address, pytest.approx(at - began)) for address, at in sockets.asked] == [
        ("192.0.2.1", 0.0),
        ("2001:db8::1", 0.25),
        ("192.0.2.2", 0.5),
    ]
    assert [made.is_closed for made in sockets.made] == [True, False, True]
    await connection.close()


async def test_of_two_that_connect_in_the_same_moment_one_is_closed(autojump_clock: MockClock) -> None:
    now = trio.Event()

    async def connects(address: str) -> None:
        with trio.CancelScope(shield=True):
            await now.wait()

    trio.socket.set_custom_hostname_resolver(Names("192.0.2.1", "192.0.2.2"))
    sockets = SlowSockets(connects)
    async with trio.open_nursery() as nursery:
        dialed = []

        async def dial() -> None:
            dialed.append(await Dialer(Proxies({})).dial(Origin("http", "slow.example", 80)))

        nursery.start_soon(dial)
        await trio.sleep(1)
        now.set()
    assert sorted(made.is_closed for made in sockets.made) == [False, True]
    await dialed[0].close()


@pytest.mark.parametrize("after_s", [0.1, 1.0])
async def test_a_dial_that_is_cancelled_in_the_moment_of_success_leaves_no_socket(
    autojump_clock: MockClock, after_s: float
) -> None:
    now = trio.Event()

    async def connects(address: str) -> None:
        with trio.CancelScope(shield=True):
            await now.wait()

    trio.socket.set_custom_hostname_resolver(Names("192.0.2.1", "192.0.2.2"))
    sockets = SlowSockets(connects)

    async def dial() -> None:
        connection = await Dialer(Proxies({})).dial(Origin("http", "slow.example", 80))
        await connection.close()  # it is for who has asked for it

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await trio.sleep(after_s)
        nursery.cancel_scope.cancel()
        now.set()
    assert [made.is_closed for made in sockets.made] == [True] * len(sockets.asked)
