"""A stream that fails: an end alone before the head, and after it an end that leaves what was delivered."""

import gzip

import pytest
import trio
from session_under_test import captured_log, session
from stream_client import CHUNKED, HOST, OK, chunk, delivered, end, greet, up
from stream_client import stream_request as asked_for

from connector_sdk.wire import ErrorClass

__all__ = ["up"]


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


@pytest.fixture
async def client(up):
    async with session(up.services, idle_timeout_s=30) as (client, _):
        await greet(client)
        yield client
        assert up.is_idle()


BEFORE_THE_HEAD = {
    "closes at once": (b"", ErrorClass.TRANSIENT, "was closed before a response came"),
    "closes in the head": (b"HTTP/1.1 200", ErrorClass.TRANSIENT, "was closed inside the response head"),
    "garbage": (b"\xff\r\n\r\n", ErrorClass.TRANSIENT, "does not speak HTTP/1.1"),
    "redirects to nowhere": (
        b"HTTP/1.1 302 X\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n",
        ErrorClass.PERMANENT,
        "",
    ),
}


# Over a connection that was kept, such a request is sent once more: tests/trio/test_server_without_task.py.
@pytest.mark.parametrize("up", ["connecting"], indirect=True)
@pytest.mark.parametrize(("sent", "error_class", "words"), BEFORE_THE_HEAD.values(), ids=BEFORE_THE_HEAD)
async def test_a_failure_before_the_head_is_an_end_alone(client, up, sent, error_class, words):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(sent)
    await peer.close()
    last = await end(client)
    assert (last.error_class, last.attempts) == (error_class, 1)
    assert words in last.error_message
    assert HOST in last.error_message or error_class is ErrorClass.PERMANENT


AFTER_THE_HEAD = {
    "cut body": (OK + b"Content-Length: 10\r\n\r\nhalf", "cut the response body short"),
    "cut in a chunk": (CHUNKED + b"a\r\nhalf", "cut the response body short"),
    "cut between chunks": (CHUNKED + chunk(b"half"), "cut the response body short"),
    "no chunk": (CHUNKED + chunk(b"half") + b"nonsense\r\n", "does not speak HTTP/1.1"),
    "gzip cut short": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: 14\r\n\r\n" + gzip.compress(b"half", mtime=0)[:14],
        "cut short",
    ),
}


@pytest.mark.parametrize(("sent", "words"), AFTER_THE_HEAD.values(), ids=AFTER_THE_HEAD)
async def test_a_failure_after_the_head_ends_the_stream_and_what_was_delivered_stands(client, up, sent, words):
    await client.send(asked_for(1))
    peer = await up.asked()
    await peer.send(sent)
    await peer.close()
    stream = await delivered(client)
    assert stream.head.status_code == 200
    assert b"half".startswith(stream.data)
    assert stream.data or "gzip" in stream.message
    assert stream.error_class is ErrorClass.TRANSIENT
    assert words in stream.message
    assert HOST in stream.message


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"timeout_ms": 5000}, "5000 ms passed (timeout_ms)"), ({}, "nothing moved for 30 s (deadline.idle_timeout_ms)")],
)
@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"HTTP/1.1 200 OK\r\n", "waiting for the response head"),
        (CHUNKED + b"5\r\nhal", "reading the response body"),
    ],
)
async def test_an_upstream_that_stops_is_timed_out(client, up, autojump_clock, parameters, words, sent, phase):
    await client.send(asked_for(1, parameters=parameters))
    peer = await up.asked()
    began_at = trio.current_time()
    await peer.send(sent)
    stream = await delivered(client)
    assert stream.error_class is ErrorClass.TIMEOUT
    assert f"{words} while {phase} from {HOST}" in stream.message
    assert (stream.data == b"hal") is (stream.head is not None)
    assert trio.current_time() - began_at == pytest.approx(parameters.get("timeout_ms", 30_000) / 1000)
    await peer.gone()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "ftp://h/"}, "unsupported URL scheme"),
        ({"parameters": {"headers": {"a b": "c"}}}, "header"),
        ({"connector_name": "smtp"}, "Unknown connector: smtp"),
    ],
)
async def test_a_wrong_request_is_an_end_alone_that_says_what_is_wrong(client, fields, words):
    await client.send(asked_for(1, **fields))
    last = await end(client)
    assert (last.error_class, last.attempts) == (ErrorClass.INVALID_REQUEST, 0)
    assert words in last.error_message


async def test_a_deadline_that_has_passed_is_an_end_alone(client):
    await client.send(asked_for(1, deadline_at_ms=1))
    assert (await end(client)).error_class is ErrorClass.TIMEOUT
