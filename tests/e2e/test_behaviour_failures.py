"""protocol.md part 1, the behaviour table, over the wire: what fails, as what, and in which words.

A test stands for a row and has its name. After each failure the same connection gets a good answer.
"""

import socket
import ssl
import time

import pytest
import trio
import trustme
from upstream import always, hold, sending, silent, upstream

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass

PREFIX = "HTTP request failed: "


@pytest.fixture
async def client(client):
    """A connection that must still work after the test."""
    yield client
    async with upstream(always(b"fine")) as up:
        assert (await client.get(up.origin)).body == "fine"


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def test_connection_refused_is_transient_and_names_host_and_port(client):
    port = unused_port()
    answer = await client.get(f"http://127.0.0.1:{port}/")
    assert answer.error_class is ErrorClass.TRANSIENT
    assert answer.message.startswith(f"{PREFIX}cannot connect to 127.0.0.1:{port}: ")
    assert answer.message.endswith("Connection refused")
    assert answer.payload is None


async def test_dns_failure_is_transient_and_names_the_host(client):
    answer = await client.get("http://nothing.invalid:81/")
    assert answer.error_class is ErrorClass.TRANSIENT
    assert answer.message.startswith(f"{PREFIX}DNS lookup of nothing.invalid")
    assert "failed: " in answer.message


async def test_dns_failure_names_the_port_too(client):
    assert "nothing.invalid:81" in (await client.get("http://nothing.invalid:81/")).message


async def reset(peer):
    await peer.request()
    peer.reset()


async def reset_in_body(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.reset()


@pytest.mark.parametrize("script", [reset, reset_in_body])
async def test_reset_is_transient_and_names_host_and_port(client, script):
    async with upstream(script) as up:
        answer = await client.get(up.origin)
    assert answer.error_class is ErrorClass.TRANSIENT
    assert answer.message.startswith(f"{PREFIX}the connection to {up.address} was reset")
    assert "Connection reset by peer" in answer.message


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "in a chunk", "no last chunk"],
)
async def test_body_cut_short_is_transient_and_names_host_and_port(client, cut):
    async with upstream(sending(cut)) as up:
        answer = await client.get(up.origin)
    assert answer.error_class is ErrorClass.TRANSIENT
    assert answer.message == f"{PREFIX}{up.address} cut the response body short"


@pytest.mark.parametrize("timeout_ms", [60, 60.5])
async def test_timeout_ms_passes_is_a_timeout(client, timeout_ms):
    async with upstream(silent) as up:
        began_at = time.monotonic()
        answer = await client.get(up.origin, timeout_ms=timeout_ms)
        took_s = time.monotonic() - began_at
    assert answer.error_class is ErrorClass.TIMEOUT
    assert "timeout_ms" in answer.message
    assert f"waiting for the response head from {up.address}" in answer.message
    assert 0.06 <= took_s < 5
    assert answer.duration_us >= 60_000


async def test_timeout_ms_of_zero_or_null_is_none(client):
    async with upstream(always(b"ok")) as up:
        for nothing in (0, None):
            assert (await client.get(up.origin, timeout_ms=nothing)).body == "ok"


async def test_deadline_at_ms_passes_is_a_timeout(client):
    async with upstream(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then=hold)) as up:
        answer = await client.execute({"url": up.origin}, deadline_at_ms=int(time.time() * 1000) + 80)
    assert answer.error_class is ErrorClass.TIMEOUT
    assert "deadline_at_ms" in answer.message
    assert f"reading the response body from {up.address}" in answer.message


async def test_deadline_at_ms_already_past_on_arrival_is_a_timeout_with_no_upstream_call(client):
    async with upstream(always(b"ok")) as up:
        answer = await client.execute({"url": up.origin}, deadline_at_ms=int(time.time() * 1000) - 1)
        assert answer.error_class is ErrorClass.TIMEOUT
        assert "nothing was sent" in answer.message
        assert up.connections == 0


async def test_the_sooner_of_the_two_limits_holds(client):
    async with upstream(silent) as up:
        answer = await client.execute(
            {"url": up.origin, "timeout_ms": 60_000}, deadline_at_ms=int(time.time() * 1000) + 60
        )
        assert "deadline_at_ms" in answer.message
        answer = await client.execute(
            {"url": up.origin, "timeout_ms": 60}, deadline_at_ms=int(time.time() * 1000) + 60_000
        )
        assert "timeout_ms" in answer.message


@pytest.mark.parametrize(
    ("names", "why"), [(("127.0.0.1",), "unable to get local issuer certificate"), (("elsewhere.test",), "mismatch")]
)
async def test_tls_certificate_rejected_is_permanent_with_the_verification_error(client, authority, names, why):
    stranger = trustme.CA() if "issuer" in why else authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert(*names).configure_cert(context)
    async with upstream(silent, tls=context) as up:
        answer = await client.get(up.origin)
    assert answer.error_class is ErrorClass.PERMANENT
    assert answer.message.startswith(f"{PREFIX}the TLS certificate of {up.address} was rejected: ")
    assert why in answer.message


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"method": "BREW"}, "'BREW'"),
        ({"method": "TRACE"}, "'TRACE'"),
        ({"method": "CONNECT"}, "'CONNECT'"),
        ({"method": "GE T"}, "'GE T'"),
        ({"method": 1}, "method must be a string"),
        ({"url": ""}, "no scheme"),
        ({"url": "notaurl"}, "no scheme"),
        ({"url": "http://"}, "no host"),
        ({"url": "http:///path"}, "no host"),
        ({"url": "http://a b/"}, "'a b'"),
        ({"url": "http://127.0.0.1:99999/"}, "port 99999"),
        ({"url": "http://127.0.0.1:0/"}, "port 0"),
        ({"url": "http://127.0.0.1:x/"}, "port"),
        ({"url": "http://[::1/"}, "not closed"),
        ({"url": "http://[::g]/"}, "::g"),
        ({"url": "http://h/a\r\nHost: b"}, "control character"),
        ({"url": "file:///etc/passwd"}, "scheme: file"),
        ({"url": "ftp://127.0.0.1/"}, "scheme: ftp"),
        ({"headers": {"A\r\nB": "1"}}, r"'A\r\nB'"),
        ({"headers": {"A B": "1"}}, "'A B'"),
        ({"headers": {"": "1"}}, "illegal header name"),
        ({"headers": {"É": "1"}}, "illegal header name"),
        ({"headers": {"A\x00": "1"}}, r"'A\x00'"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "'X-A'"),
        ({"headers": {"X-A": "1\n"}}, "'X-A'"),
        ({"headers": {"X-A": "1\x00"}}, "'X-A'"),
        ({"headers": {"X-A": 1}}, "'X-A' must be a string"),
        ({"headers": ["X-A"]}, "headers must be an object"),
        ({"timeout_ms": -1}, "timeout_ms"),
        ({"timeout_ms": "60"}, "timeout_ms"),
        ({"body": "a", "body_base64": "YQ=="}, "exclude each other"),
        ({"body_base64": "%"}, "base64"),
    ],
    ids=str,
)
async def test_unsupported_method_malformed_url_scheme_illegal_header_is_invalid_request_naming_it(
    client, parameters, named
):
    async with upstream(silent) as up:
        answer = await client.execute({"url": up.origin} | parameters)
        assert up.connections == 0
    assert answer.error_class is ErrorClass.INVALID_REQUEST
    assert named in answer.message
    assert "\n" not in answer.message


@pytest.mark.parametrize("payload", [b"{}", b'{"url":null}', b'{"url":1}', b'{"url":["http://h/"]}', b'{"URL":"x"}'])
async def test_missing_or_non_string_url(client, payload):
    answer = await client.execute(payload)
    assert (answer.error_class, answer.message) == (ErrorClass.INVALID_REQUEST, "Missing required field: url")


@pytest.mark.parametrize(
    "payload",
    [None, b"", b"{", b"nothing", b'{"url":"http://h/"', b'{"url":"http://h/"} more', b"\xff", b'{"url":"\xff"}'],
    ids=repr,
)
async def test_payload_not_json_or_absent(client, payload):
    answer = await client.execute(payload)
    assert answer.error_class is ErrorClass.INVALID_REQUEST
    assert answer.message.startswith("Invalid HTTP params: ")


async def test_other_connector_name(client):
    answer = await client.execute({"url": "http://h/"}, connector_name="smtp")
    assert (answer.error_class, answer.message) == (
        ErrorClass.INVALID_REQUEST,
        "Unknown connector: smtp (known: http, runtime)",
    )


@pytest.mark.parametrize("body_bytes", [0, 1, 1000])
@pytest.mark.parametrize("given", ["5", "-1", "five", "5, 5"])
async def test_content_length_given_by_the_client_and_wrong(client, body_bytes, given):
    async with upstream(silent) as up:
        answer = await client.get(up.origin, method="POST", body="x" * body_bytes, headers={"Content-Length": given})
        assert up.connections == 0
    assert answer.error_class is ErrorClass.INVALID_REQUEST
    assert "Content-Length" in answer.message
    assert str(body_bytes) in answer.message


async def test_content_length_given_by_the_client_and_right(client):
    async with upstream(always(b"ok")) as up:
        assert (await client.get(up.origin, method="POST", body="é", headers={"content-length": "2"})).body == "ok"
        assert up.last.header("content-length") == "2"


@pytest.mark.parametrize("how", ["length", "chunked", "json"])
async def test_response_frame_over_10_mib_is_permanent_and_says_how_long_it_is(client, how):
    size = MAX_FRAME_BYTES if how == "json" else 11 * 1024 * 1024
    byte = b"\x01" if how == "json" else b"x"  # as JSON text it takes six times as much

    async def script(peer):
        if await peer.request() is not None:
            framing = b"Transfer-Encoding: chunked" if how == "chunked" else b"Content-Length: %d" % size
            await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + (b"%x\r\n" % size) * (how == "chunked"))
            for _ in range(0, size, 65_536):
                await peer.send(byte * 65_536)
            await trio.sleep_forever()

    async with upstream(script) as up:
        answer = await client.get(up.origin)
    assert answer.error_class is ErrorClass.PERMANENT
    assert answer.message.startswith("response body of ")
    assert ("of at least 10" if how == "chunked" else f"of {size} bytes") in answer.message
    assert "exceeds" in answer.message
    assert f"the frame limit of {MAX_FRAME_BYTES} bytes; use streaming" in answer.message


async def test_the_longest_response_that_fits_a_frame_is_delivered(client):
    size = MAX_FRAME_BYTES - 1024
    async with upstream(always(b"x" * size)) as up:
        assert len((await client.get(up.origin)).body) == size
