"""Connections used again: kept, closed, replaced when they died, and requests that met one in the moment it did."""

from __future__ import annotations

import pytest
import trio
from http_upstream import (
    IDLE,
    Client,
    Peer,
    Script,
    World,
    failure,
    hello,
    say,
    start_client,
    start_upstream,
)
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass
from vastar_runtime.http.pool import PoolKey
from vastar_runtime.http.prompt_connection import PromptConnection
from vastar_runtime.http.url import parse_url

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["plain", "tls"])
def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> World:
    return World(nursery, request.param == "tls")


@pytest.fixture
def client(nursery: trio.Nursery) -> Client:
    return start_client(nursery)


# --- keeping connections ---


async def test_one_connection_serves_one_request_after_the_other(world: World) -> None:
    upstream = await world.upstream(hello)
    for _ in range(5):
        answer = await world.client.fetch(upstream.url())
        assert (answer.status, answer.body) == (200, b"hello")
        assert world.client.pool.statistics().idle == 1
    assert upstream.connections == 1
    assert len(upstream.requests) == 5


async def test_requests_at_the_same_time_have_a_connection_each_and_keep_them(
    client: Client, nursery: trio.Nursery
) -> None:
    release = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.answer(b"hello")
        await hello(peer)

    upstream = await start_upstream(nursery, script)
    async with trio.open_nursery() as requests:
        for _ in range(3):
            requests.start_soon(client.fetch, upstream.url())
        while upstream.connections < 3:
            await wait_all_tasks_blocked()
        assert client.pool.statistics().active == 3
        release.set()
    assert client.pool.statistics().idle == 3
    await client.fetch(upstream.url())
    assert upstream.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        HELLO + b"surplus",
        HELLO + HELLO,
    ],
    ids=["Connection: close", "close-delimited", "HTTP/1.0", "surplus", "a second answer"],
)
async def test_a_connection_that_cannot_be_kept_is_closed(world: World, answer: bytes) -> None:
    upstream = await world.upstream(say(answer))
    for number in (1, 2):
        assert (await world.client.fetch(upstream.url())).body == b"hello"
        assert world.client.pool.statistics() == IDLE
        assert upstream.connections == number


@pytest.mark.parametrize("dies_by", ["closing", "reset"])
async def test_a_connection_that_died_while_idle_is_replaced_before_it_is_used(world: World, dies_by: str) -> None:
    """Even a POST is safe: nothing of it went to the dead connection."""
    die, died = trio.Event(), trio.Event()

    async def first(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await die.wait()
        if dies_by == "reset":
            await peer.reset()
        else:
            await trio.aclose_forcefully(peer.stream)
        died.set()

    upstream = await world.upstream(first, hello)
    await world.client.fetch(upstream.url())
    die.set()
    await died.wait()
    assert world.client.pool.statistics().idle == 1
    assert (await world.client.fetch(upstream.url(), "POST", body=b"x")).body == b"hello"
    assert upstream.connections == 2
    assert [request.method for request in upstream.requests] == ["GET", "POST"]


async def test_something_said_while_idle_makes_the_connection_unusable(client: Client, nursery: trio.Nursery) -> None:
    said = trio.Event()

    async def first(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await wait_all_tasks_blocked()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        said.set()
        await peer.gone()

    upstream = await start_upstream(nursery, first, hello)
    await client.fetch(upstream.url())
    await said.wait()
    assert (await client.fetch(upstream.url())).status == 200
    assert upstream.connections == 2


# --- dying in the moment of reuse ---


def dies_on_second_request(by_reset: bool) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await peer.request()
        if by_reset:
            await peer.reset()

    return script


@pytest.mark.parametrize("by_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_an_idempotent_request_that_met_a_dying_connection_is_sent_again_once(
    world: World, method: str, by_reset: bool
) -> None:
    upstream = await world.upstream(dies_on_second_request(by_reset), hello)
    await world.client.fetch(upstream.url())
    body = b"body" if method == "PUT" else b""
    answer = await world.client.fetch(upstream.url("/again"), method, body=body)
    assert answer.status == 200
    assert [(r.method, r.target, r.body) for r in upstream.requests[1:]] == [(method, "/again", body)] * 2
    assert upstream.connections == 2
    assert world.client.pool.statistics().active == 0


@pytest.mark.parametrize("by_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_post_that_was_written_is_not_sent_twice_and_the_error_says_so(
    world: World, method: str, by_reset: bool
) -> None:
    upstream = await world.upstream(dies_on_second_request(by_reset), hello)
    await world.client.fetch(upstream.url())
    error = await failure(world.client, upstream.url("/order"), method, body=b"buy")
    assert error.error_class is ErrorClass.TRANSIENT
    assert f"the connection to 127.0.0.1:{upstream.port} was " in error.message
    assert " before a response came" in error.message
    assert error.message.endswith(f"; the {method} is not sent again, as it may have been acted upon")
    assert [request.target for request in upstream.requests] == ["/", "/order"]


async def test_it_is_sent_again_only_once(world: World) -> None:
    async def refuses(peer: Peer) -> None:
        await peer.request()

    upstream = await world.upstream(dies_on_second_request(False), refuses)
    await world.client.fetch(upstream.url())
    error = await failure(world.client, upstream.url("/again"))
    assert error.message == (
        f"HTTP request failed: the connection to 127.0.0.1:{upstream.port} was closed before a response came"
    )
    assert [request.target for request in upstream.requests] == ["/", "/again", "/again"]


async def test_on_a_fresh_connection_nothing_is_sent_again(world: World) -> None:
    async def refuses(peer: Peer) -> None:
        await peer.request()

    upstream = await world.upstream(refuses)
    assert "was closed before a response came" in (await failure(world.client, upstream.url())).message
    assert len(upstream.requests) == 1


async def test_once_a_byte_of_the_response_has_come_nothing_is_sent_again(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"hello")
        await peer.request()
        await peer.send(b"H")

    upstream = await world.upstream(script)
    await world.client.fetch(upstream.url())
    assert "was closed inside the response head" in (await failure(world.client, upstream.url())).message
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_of_which_nothing_could_be_written_is_sent_on_a_fresh_connection(
    client: Client, nursery: trio.Nursery, method: str
) -> None:
    """A connection that still looked alive: only writing to it showed that it was not."""
    upstream = await start_upstream(nursery, hello)
    near, far = memory_stream_pair()
    await far.aclose()
    stale = PromptConnection(near, "stale")
    client.pool.keep_idle(PoolKey("tenant", parse_url(upstream.url()).origin), stale)
    assert (await client.fetch(upstream.url(), method)).body == b"hello"
    assert stale.exchanges == 1
    assert not stale.has_written
