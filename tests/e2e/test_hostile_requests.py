"""Requests that break the rules, or the reader: each is answered, and the next one too."""

import json
import os
import socket
import struct
from contextlib import suppress

import pytest
import trio
from daemon_process import DaemonProcess
from raw_frame import encode_frame
from upstream import always, echo, silent, upstream
from wire_client import WireClient, connected, execute_request

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass, encode_message


@pytest.fixture
async def client(client):
    """A connection that must still work after the test."""
    async with upstream(always(b"fine")) as up:
        yield client
        assert (await client.get(up.origin)).body == "fine"


def deep(opening: str, closing: str) -> bytes:
    return b'{"url":"http://h/","x":' + opening.encode() * 100_000 + closing.encode() * 100_000 + b"}"


NOT_AN_OBJECT = {
    "array": b"[]",
    "array of url": b'["http://h/"]',
    "string": b'"http://h/"',
    "number": b"1",
    "null": b"null",
    "deep arrays": deep("[", "]"),
    "deep objects": deep('{"a":', "}").replace(b":}", b":1}"),
    "deep url": b'{"url":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NUL": b'{"url":"http://h/"}\x00',
    "utf-16": '{"url":"http://h/"}'.encode("utf-16"),
    "a surrogate": rb'{"url":"http://h/\ud800"}',
    "a surrogate in a header": rb'{"url":"http://h/","headers":{"X-A":"\udfff"}}',
    "a number of 100,000 digits": b'{"url":"http://h/","timeout_ms":' + b"9" * 100_000 + b"}",
    "NaN": b'{"url":"http://h/","timeout_ms":NaN}',
}


@pytest.mark.parametrize("payload", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT.keys())
async def test_json_of_the_wrong_kind(client, payload):
    answer = await client.execute(payload)
    assert answer.error_class is ErrorClass.INVALID_REQUEST, answer
    assert answer.message.startswith("Invalid HTTP params: ")
    assert len(answer.message) < 1000


async def test_of_two_urls_the_last_one_counts(client):
    """As in the existing runtime's JSON reader, and in most."""
    async with upstream(always(b"second")) as up:
        answer = await client.execute(b'{"url":"http://127.0.0.1:1/","url":"%s"}' % up.origin.encode())
    assert answer.body == "second"


@pytest.mark.parametrize("url", [b"1", b"1e9", b"true", b"{}", b"[]", b"null"])
async def test_a_url_that_is_no_string(client, url):
    answer = await client.execute(b'{"url":%s}' % url)
    assert (answer.error_class, answer.message) == (ErrorClass.INVALID_REQUEST, "Missing required field: url")


INJECTIONS = ["\r\nX-Injected: 1", "\nX-Injected: 1", "\r", "\n", "\x00", "\x7f", "\x1b[2J"]


@pytest.mark.parametrize("injected", INJECTIONS, ids=ascii)
@pytest.mark.parametrize("place", ["name", "value", "method", "url", "host"])
async def test_no_control_character_reaches_an_upstream(client, injected, place):
    async with upstream(echo) as up:
        parameters = {
            "name": {"headers": {f"X-A{injected}": "1"}},
            "value": {"headers": {"X-A": f"1{injected}2"}},
            "method": {"method": f"GET{injected}"},
            "url": {"url": f"{up.origin}/a{injected}b"},
            "host": {"headers": {"Host": f"h{injected}h"}},
        }[place]
        answer = await client.execute({"url": f"{up.origin}/"} | parameters)
        assert answer.error_class is ErrorClass.INVALID_REQUEST
        assert up.connections == 0
    assert not set(answer.message) & set(map(chr, range(32)))


@pytest.mark.parametrize("spelling", ["[::1]", "[0:0:0:0:0:0:0:1]"])
async def test_an_ipv6_literal_is_reached_and_named(client, spelling):
    try:
        async with upstream(echo, host="::1") as up:
            answer = await client.get(f"http://{spelling}:{up.port}/six")
            assert json.loads(answer.body)["path"] == "/six"
            assert up.last.header("host") == f"[::1]:{up.port}"
    except* OSError:
        pytest.skip("no ::1 here")
    answer = await client.get(f"http://{spelling}:{up.port}/")
    assert answer.error_class is ErrorClass.TRANSIENT
    assert f"[::1]:{up.port}" in answer.message


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "FILE:/etc/passwd", "data:,x", "javascript:0", "unix:/s", "//h/"]
)
async def test_a_url_of_another_scheme(client, url):
    answer = await client.get(url)
    assert answer.error_class is ErrorClass.INVALID_REQUEST
    assert "http" in answer.message


async def test_a_body_of_20_mib_is_refused_with_its_frame_and_the_next_connection_works(running):
    async with running.connect() as client:
        body = b'{"url":"http://127.0.0.1:1/","body":"' + b"x" * (20 * 1024 * 1024) + b'"}'
        await client.send(struct.pack(">IB", len(body) + 1, 0) + body)
        answer = await client.answer()
        assert (answer.request_id, answer.error_class) == (0, ErrorClass.INVALID_REQUEST)
        assert str(MAX_FRAME_BYTES) in answer.message
        await client.end()
    async with running.connect() as client:
        assert (await client.health()).healthy


async def test_many_requests_at_the_limit_of_size_are_refused_before_they_take_the_daemon_s_memory(running):
    """40 requests of 10 MiB that never end: two dozen are held, the others are RateLimited."""
    async with upstream(silent) as up, running.connect() as client:
        payload = json.dumps({"url": up.origin, "method": "PUT", "body": "x" * (MAX_FRAME_BYTES - 2048)}).encode()
        refused = 0

        async def count_refusals():
            nonlocal refused
            while (answer := await client.answer()).error_class is ErrorClass.RATE_LIMITED:
                assert "exceed" in answer.message
                refused += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_refusals)
            for number in range(40):
                await client.send(execute_request(number, payload))
            await client.send(encode_frame(0, b"the end"))
        assert 10 <= refused <= 20
    async with running.connect() as client:
        with trio.fail_after(10):
            while (await client.health()).active_requests:
                pass


async def dropped_while_sending(client: WireClient, frames: bytes) -> None:
    try:
        for _ in range(10_000):
            await client.send(frames)
    except trio.BrokenResourceError:
        return
    pytest.fail("the daemon goes on taking frames whose answers nobody reads")


async def test_a_client_that_sends_and_never_reads_harms_no_one(running):
    async with upstream(always(b"x" * 10_000)) as up, running.connect() as neighbour, running.connect() as deaf:
        await dropped_while_sending(deaf, encode_message(execute_request(1, {"url": "notaurl"})) * 50)
        assert (await neighbour.get(up.origin)).body == "x" * 10_000
    running.wait_for_log("the client does not read its answers")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_vanishes_over_tcp_closes_its_upstream_connection_at_once(running, how):
    gone = trio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await peer.gone()
        gone.set()

    async with upstream(script) as up:
        async with connected(running.tcp_port) as client:
            await client.begin({"url": up.origin})
            await up.asked.wait()
            if how == "reset":
                client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with trio.fail_after(10):
            await gone.wait()


async def test_a_hundred_clients_that_come_and_go_leave_nothing(running: DaemonProcess):
    async def come_and_go(number: int) -> None:
        async with running.connect() as client:
            await client.begin({"url": up.origin})
            if number % 2:
                await client.send(b"\0\0")

    async with upstream(silent) as up:
        before = open_sockets(running)
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(come_and_go, number)
        with trio.fail_after(10):
            while open_sockets(running) > before:
                await trio.sleep(0.005)


def open_sockets(running: DaemonProcess) -> int:
    """Not its files: the usage file, and others, are opened when they are first needed, and stay open."""
    count = 0
    directory = f"/proc/{running.process.pid}/fd"
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):  # closed since it was listed
            count += os.readlink(f"{directory}/{name}").startswith("socket:")
    return count


async def test_a_client_of_the_wrong_protocol(running):
    """An HTTP client on the daemon's port: "GET " is a length of over 1 GiB."""
    async with connected(running.tcp_port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await client.answer()
        assert "frame length 1195725856" in answer.message
        await client.end()
