"""Exchanges that end before their time: broken off, refused early, cancelled; and what is said while they run."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from http_upstream import (
    IDLE,
    Client,
    Peer,
    World,
    failure,
    hello,
    say,
    start_client,
    start_upstream,
)
from trio.testing import wait_all_tasks_blocked

from connector_sdk.wire import ErrorClass

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["plain", "tls"])
def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> World:
    return World(nursery, request.param == "tls")


@pytest.fixture
def client(nursery: trio.Nursery) -> Client:
    return start_client(nursery)


# --- cut off ---


@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("sent", "where"),
    [
        (b"", "before a response came"),
        (b"HTTP/1.1 200 OK\r\nContent-", "inside the response head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "inside the response body"),
    ],
    ids=["before the head", "inside the head", "inside the body"],
)
async def test_an_upstream_that_breaks_off(world: World, sent: bytes, where: str, by_reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        if by_reset:
            await peer.reset()

    upstream = await world.upstream(script)
    name = f"127.0.0.1:{upstream.port}"
    error = await failure(world.client, upstream.url())
    assert error.error_class is ErrorClass.TRANSIENT
    assert world.client.pool.statistics() == IDLE
    if by_reset:
        expected = f"the connection to {name} was reset {where} (Connection reset by peer)"
    elif where == "inside the response body":
        expected = f"{name} cut the response body short"
    else:
        expected = f"the connection to {name} was closed {where}"
    assert error.message == f"HTTP request failed: {expected}"


async def test_garbage_for_an_answer_closes_the_connection(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"this is no HTTP\r\n\r\n")
        await peer.gone()

    upstream = await world.upstream(script)
    error = await failure(world.client, upstream.url())
    assert error.error_class is ErrorClass.TRANSIENT
    assert error.message.startswith(f"HTTP request failed: 127.0.0.1:{upstream.port} does not speak HTTP/1.1: ")
    while upstream.open_connections:
        await wait_all_tasks_blocked()


# --- answers before the request is through ---


async def refuses_large_upload(peer: Peer) -> None:
    await peer.request_head()
    await peer.answer(b"too large", status=413, headers="Connection: close\r\n")


async def test_an_upstream_may_refuse_a_large_upload_and_close(world: World) -> None:
    upstream = await world.upstream(refuses_large_upload)
    answer = await world.client.fetch(upstream.url(), "POST", body=bytes(10 * 1024 * 1024))
    assert (answer.status, answer.body) == (413, b"too large")
    assert world.client.pool.statistics() == IDLE


async def test_an_upstream_may_refuse_a_large_upload_and_neither_read_nor_close(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.answer(b"too large", status=413)
        await trio.sleep_forever()

    upstream = await world.upstream(script)
    answer = await world.client.fetch(upstream.url(), "POST", body=bytes(10 * 1024 * 1024))
    assert (answer.status, answer.body) == (413, b"too large")
    assert world.client.pool.statistics() == IDLE


async def test_a_connection_that_did_not_take_the_whole_upload_is_not_kept_whatever_it_says(
    client: Client, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.answer(b"no", status=413)

    upstream = await start_upstream(nursery, script)
    answer = await client.fetch(upstream.url(), "POST", body=bytes(10 * 1024 * 1024))
    assert answer.status == 413
    assert client.pool.statistics() == IDLE


async def test_an_upload_that_is_cut_off_without_an_answer_says_so(client: Client, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.reset()

    upstream = await start_upstream(nursery, script)
    error = await failure(client, upstream.url(), "PUT", body=bytes(10 * 1024 * 1024))
    assert f"the connection to 127.0.0.1:{upstream.port} was " in error.message
    assert "before a response came" in error.message
    assert upstream.connections == 1


async def test_a_large_upload_arrives_whole(world: World) -> None:
    upstream = await world.upstream(hello)
    body = bytes(range(256)) * 20_000
    await world.client.fetch(upstream.url(), "PUT", body=body)
    assert upstream.requests[0].body == body
    assert world.client.pool.statistics().idle == 1


async def test_the_head_is_there_while_the_upload_goes_on_and_the_upload_is_finished(world: World) -> None:
    head_is_there, body_is_there = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await head_is_there.wait()
        await peer.rest_of_body(len(body))
        body_is_there.set()
        await peer.gone()

    upstream = await world.upstream(script)
    body = bytes(range(256)) * 40_000
    exchange = world.client.exchange(upstream.url(), "PUT", body=body)
    await exchange.open()
    assert await exchange.receive() == b"hello"
    head_is_there.set()
    assert await exchange.receive() is None
    await exchange.close()
    await body_is_there.wait()
    assert upstream.requests[0].body == body
    assert world.client.pool.statistics().idle == 1


async def test_an_upstream_may_echo_what_it_reads(world: World) -> None:
    """With buffers smaller than the body neither side could go on, if we read only after all was written."""
    body = bytes(range(256)) * 160_000

    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await peer.rest_of_body(len(body), peer.send)
        await peer.gone()

    upstream = await world.upstream(script)
    answer = await world.client.fetch(upstream.url(), "POST", body=body)
    assert answer.body == body
    assert world.client.pool.statistics().idle == 1


async def test_a_reader_that_leaves_during_an_upload_ends_it(world: World) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await trio.sleep_forever()

    upstream = await world.upstream(script)
    exchange = world.client.exchange(upstream.url(), "POST", body=bytes(40 * 1024 * 1024))
    with trio.CancelScope() as leaving:
        try:
            await exchange.open()
            while await exchange.receive() is not None:
                leaving.cancel()
        finally:
            await exchange.close()
    assert leaving.cancelled_caught
    assert world.client.pool.statistics() == IDLE


# --- giving up ---


async def test_what_is_being_waited_for_is_said_at_every_step(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    await client.fetch(upstream.url())
    name = f"127.0.0.1:{upstream.port}"
    assert client.waits == [
        f"connecting to {name}",
        f"sending the request to {name}",
        f"waiting for the response head from {name}",
        f"reading the response body from {name}",
        f"reading the response body from {name}",
        f"reading the response body from {name}",
    ]


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
async def test_a_cancelled_exchange_closes_its_upstream_connection_at_once(world: World, sent: bytes) -> None:
    gone = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.gone()
        gone.set()

    upstream = await world.upstream(script)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(world.client.fetch, upstream.url()))
        while not upstream.requests:
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert world.client.pool.statistics() == IDLE
    await gone.wait()


async def test_closing_twice_gives_back_once(client: Client, nursery: trio.Nursery) -> None:
    upstream = await start_upstream(nursery, hello)
    exchange = client.exchange(upstream.url())
    await exchange.close()
    await exchange.open()
    await exchange.close()
    await exchange.close()
    assert client.pool.statistics() == IDLE


async def test_an_exchange_that_is_not_read_to_its_end_is_not_kept_unless_the_end_is_there(
    client: Client, nursery: trio.Nursery
) -> None:
    upstream = await start_upstream(nursery, say(HELLO), say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"))
    for kept in (1, 0):
        exchange = client.exchange(upstream.url(), tenant=str(kept))
        await exchange.open()
        assert await exchange.receive() == b"hello"
        exchange.end_early()
        await exchange.close()
        assert client.pool.statistics().idle == kept
        for connection in client.pool.take_expired(float("inf")):
            await connection.close()
