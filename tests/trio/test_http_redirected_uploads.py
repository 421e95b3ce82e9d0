"""Redirects of requests whose body is still on its way when the answer comes."""

from __future__ import annotations

import pytest
import trio
from http_upstream import IDLE, Peer, Script, World, start_upstream

SIZES = [20_000, 2_000_000]
BODIES = [b"", b"moved", bytes(200_000)]


@pytest.fixture(params=["plain", "tls"])
def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> World:
    return World(nursery, request.param == "tls")


def upload(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def redirecting(location: str, status: int, body: bytes, *, reads: bool) -> Script:
    """Redirect; with ``reads`` after the whole request has come, else as soon as its head has."""

    async def script(peer: Peer) -> None:
        await (peer.request() if reads else peer.request_head())
        await peer.answer(body, status=status, headers=f"Location: {location}\r\n")
        await peer.gone()

    return script


async def echo_length(peer: Peer) -> None:
    while (request := await peer.request()) is not None:
        await peer.answer(b"%d" % len(request.body))


@pytest.mark.parametrize("reads", [True, False], ids=["after the upload", "during the upload"])
@pytest.mark.parametrize("body", BODIES, ids=["no body", "short body", "long body"])
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("size", SIZES)
async def test_the_whole_body_goes_to_where_the_redirect_leads(
    world: World, size: int, status: int, body: bytes, reads: bool
) -> None:
    second = await world.upstream(echo_length)
    first = await world.upstream(redirecting(second.url("/there"), status, body, reads=reads))
    answer = await world.client.fetch(first.url(), "POST", body=upload(size))
    assert (answer.status, answer.body) == (200, b"%d" % size)
    (request,) = second.requests
    assert (request.method, request.target, request.body) == ("POST", "/there", upload(size))
    statistics = world.client.pool.statistics()
    assert (statistics.active, statistics.waiting) == (0, 0)


@pytest.mark.parametrize("reads", [True, False], ids=["after the upload", "during the upload"])
@pytest.mark.parametrize(("status", "method"), [(303, "PUT"), (303, "POST"), (302, "POST"), (301, "POST")])
@pytest.mark.parametrize("size", SIZES)
async def test_where_the_redirect_makes_it_a_get_the_body_stays_behind(
    world: World, size: int, status: int, method: str, reads: bool
) -> None:
    second = await world.upstream(echo_length)
    first = await world.upstream(redirecting(second.url("/there"), status, b"moved", reads=reads))
    answer = await world.client.fetch(first.url(), method, body=upload(size))
    assert (answer.status, answer.body) == (200, b"0")
    (request,) = second.requests
    assert (request.method, request.body, request.header("content-length")) == ("GET", b"", None)


async def test_several_redirects_in_a_row_send_it_each_time(world: World) -> None:
    size = 300_000
    last = await world.upstream(echo_length)
    location = last.url()
    hops = []
    for number in range(5):
        hop = await world.upstream(redirecting(location, 307, b"moved", reads=number % 2 == 0))
        hops.append(hop)
        location = hop.url()
    answer = await world.client.fetch(location, "PUT", body=upload(size))
    assert (answer.status, answer.body) == (200, b"%d" % size)
    assert [hop.connections for hop in hops] == [1] * 5


async def test_a_connection_that_took_the_whole_upload_before_it_redirected_is_used_again(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"moved", status=307, headers="Location: /again\r\n")
        await echo_length(peer)

    upstream = await world.upstream(script)
    answer = await world.client.fetch(upstream.url(), "POST", body=upload(1000))
    assert (answer.body, upstream.connections) == (b"1000", 1)


async def test_a_connection_that_did_not_take_the_whole_upload_is_not_used_again(world: World) -> None:
    size = 2_000_000
    location = "/again"
    upstream = await world.upstream(redirecting(location, 307, b"", reads=False), echo_length)
    answer = await world.client.fetch(upstream.url(), "POST", body=upload(size))
    assert (answer.body, upstream.connections) == (b"%d" % size, 2)


async def test_a_redirect_that_is_delivered_as_it_is_ends_the_upload_too(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.answer(b"choose", status=300, headers="Location: /x\r\n")
        await peer.gone()

    upstream = await world.upstream(script)
    answer = await world.client.fetch(upstream.url(), "POST", body=upload(2_000_000))
    assert (answer.status, answer.body) == (300, b"choose")
    assert world.client.pool.statistics() == IDLE


async def test_a_request_cancelled_while_a_redirect_is_followed_leaves_nothing(nursery: trio.Nursery) -> None:
    world = World(nursery, has_tls=False)
    arrived = trio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request_head()
        arrived.set()
        await trio.sleep_forever()

    second = await start_upstream(nursery, slow)
    first = await start_upstream(nursery, redirecting(second.url(), 307, b"moved", reads=False))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(lambda: world.client.fetch(first.url(), "POST", body=upload(2_000_000)))
            await arrived.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert world.client.pool.statistics() == IDLE
