"""From a host to a connected socket: one lookup, a look at what it found, and attempts in turn (RFC 8305).

Between the lookup and the attempts somebody else has a say, so that trio's ``open_tcp_stream``, which does both, is of
no use here.
"""

from __future__ import annotations

import socket
from typing import NamedTuple, Protocol

import trio

from vastar_runtime.errors import EgressDenied

from .url import Origin

ATTEMPT_DELAY_S = 0.25  # RFC 8305, section 5
# A name may be found at thousands, which are its owner's to choose; nobody else is to be tried in such numbers.
MAX_ADDRESSES = 64
# With the longest lists of rules each takes a fraction of a millisecond.
JUDGED_PER_TURN = 8


class AddressGuard(Protocol):
    """Where connections may go; see policies.egress."""

    def refusal(self, origin: str, address: str) -> str | None:
        """Why a connection to this origin must not go to this address; None: it may."""


class Found(NamedTuple):
    """One place to connect to, as ``getaddrinfo`` gives it.

    Attributes:
        place: what the socket is given; the address first.
    """

    family: socket.AddressFamily
    protocol: int
    place: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

    @property
    def address(self) -> str:
        """The IP address, in text."""
        return str(self.place[0])


async def find(origin: Origin, guard: AddressGuard | None) -> list[Found]:
    """The addresses of an origin that may be connected to, in the order in which to try them; at least one.

    Args:
        guard: None: all may.

    Raises:
        OSError: its name is not found (socket.gaierror), or at no address.
        EgressDenied: at none that may be connected to.
    """
    found = await _look_up(origin)
    if guard is None:
        return found
    allowed: list[Found] = []
    refusals: list[str] = []
    for number, place in enumerate(found, 1):
        if number % JUDGED_PER_TURN == 0:
            await trio.lowlevel.checkpoint()
        refusal = guard.refusal(origin.without_root, place.address)
        if refusal is None:
            allowed.append(place)
        else:
            refusals.append(refusal)
    if not allowed:
        raise EgressDenied(refusals[0])
    return allowed


async def connect(found: list[Found]) -> trio.SocketStream:
    """To the first that answers. A further one is tried when the one before it has failed, or is slow.

    Raises:
        OSError: none does; the cause is of the one, or a group with those of all.
    """
    if len(found) == 1:  # a nursery and its tasks cost several times as much
        return trio.SocketStream(await _connected(found[0]))
    return await _first_of(_families_in_turn(found))


def peer_address(stream: trio.SocketStream) -> str:
    """The IP address at the other end, as the kernel has it.

    Raises:
        OSError: the connection has ended already.
    """
    return str(stream.socket.getpeername()[0])


async def _look_up(origin: Origin) -> list[Found]:
    if ":" in origin.host:
        return [Found(socket.AF_INET6, 0, (origin.host, origin.port))]
    if origin.host[-1].isdigit() and origin.host.rpartition(".")[2].isdigit():
        return [Found(socket.AF_INET, 0, (origin.host, origin.port))]
    answers = await trio.socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    if not answers:
        raise OSError("its name has no address")
    return [Found(family, protocol, place) for family, _, protocol, _, place in answers[:MAX_ADDRESSES]]


def _families_in_turn(found: list[Found]) -> list[Found]:
    """Where one family does not get through at all, the other one is tried second and not last."""
    for number, place in enumerate(found):
        if place.family != found[0].family:
            return [found[0], place, *found[1:number], *found[number + 1 :]]
    return found


async def _connected(place: Found) -> trio.socket.SocketType:
    connecting = trio.socket.socket(place.family, socket.SOCK_STREAM, place.protocol)
    try:
        await connecting.connect(place.place)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _first_of(found: list[Found]) -> trio.SocketStream:
    connected: list[trio.socket.SocketType] = []
    errors: list[OSError] = []

    async def attempt(place: Found, failed: trio.Event) -> None:
        try:
            connecting = await _connected(place)
        except OSError as error:
            errors.append(error)
            failed.set()
            return
        if connected:
            connecting.close()
        else:
            connected.append(connecting)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for place in found:
                failed = trio.Event()
                nursery.start_soon(attempt, place, failed)
                with trio.move_on_after(ATTEMPT_DELAY_S):
                    await failed.wait()
    except BaseException:  # cancelled in the moment of success
        for connecting in connected:
            connecting.close()
        raise
    if not connected:
        raise OSError("all attempts failed") from ExceptionGroup("all attempts failed", errors)
    return trio.SocketStream(connected[0])
