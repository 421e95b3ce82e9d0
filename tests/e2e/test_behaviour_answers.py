"""protocol.md part 1, the behaviour table, over the wire: what is sent upstream, and what is delivered.

A test stands for a row and has its name.
"""

import base64
import gzip
import json
import zlib

import brotli
import pytest
import trio
import zstandard
from upstream import Request, always, answering, echo, hold, sending, upstream
from wire_client import connected

from connector_sdk.wire import ErrorClass

SEVERAL = [200, 201, 204, 304, 400, 401, 404, 418, 429, 500, 503, 599]


@pytest.mark.parametrize("status", SEVERAL)
async def test_any_http_status_is_a_success_with_the_status_in_the_payload(client, status):
    has_body = status not in (204, 304)
    async with upstream(always(b"said so" if has_body else b"", status=status, length=has_body)) as up:
        answer = await client.get(f"{up.origin}/")
    assert answer.error_class is ErrorClass.SUCCESS
    assert answer.payload.keys() == {"body", "headers", "is_streaming", "status_code"}
    assert (answer.status, answer.body) == (status, "said so" if has_body else "")
    assert answer.payload["is_streaming"] is False
    assert answer.duration_us > 0


async def test_the_same_over_tcp(running):
    async with upstream(always(b"over tcp", status=404)) as up, connected(running.tcp_port) as client:
        answer = await client.get(f"{up.origin}/")
    assert (answer.status, answer.body) == (404, "over tcp")


def redirecting(status: int, location: str, steps: int = 1):
    """/0 leads to ``location``, or to /1 and so on until ``steps`` are made; whatever else echoes its path."""

    def answer(request: Request):
        number = request.target.strip("/")
        if number.isdigit() and int(number) < steps:
            target = location if steps == 1 else f"/{int(number) + 1}"
            return {"status": status, "headers": [("Location", target)], "body": b"moved"}
        return {"body": request.target.encode()}

    return answering(answer)


@pytest.mark.parametrize(
    ("status", "method", "becomes"),
    [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ],
)
async def test_a_redirect_is_followed_post_becomes_get_on_301_302_303_and_referer_is_added(
    client, status, method, becomes
):
    async with upstream(redirecting(status, "/there?a=b")) as up:
        answer = await client.get(f"{up.origin}/0", method=method, body="sent", headers={"Content-Type": "text/x"})
    assert (answer.status, answer.body) == (200, "/there?a=b")
    first, second = up.requests
    assert (first.method, second.method) == (method, becomes)
    assert second.header("referer") == f"{up.origin}/0"
    kept = method == becomes
    assert (second.body, second.header("content-type")) == ((b"sent", "text/x") if kept else (b"", None))


async def test_a_redirect_is_followed_ten_times_at_most(client):
    async with upstream(redirecting(302, "", steps=10)) as up:
        answer = await client.get(f"{up.origin}/0")
        assert (answer.status, answer.body) == (200, "/10")
    async with upstream(redirecting(302, "", steps=11)) as up:
        answer = await client.get(f"{up.origin}/0")
        assert answer.error_class is ErrorClass.PERMANENT
        assert "10 redirects" in answer.message
        assert up.address in answer.message
        assert len(up.requests) == 11


async def test_a_redirect_to_another_origin_loses_authorization_and_cookie(client):
    secrets = {"Authorization": "Bearer one", "Cookie": "a=b", "X-Kept": "yes"}
    async with upstream(always(b"elsewhere")) as other, upstream(redirecting(307, f"{other.origin}/")) as up:
        answer = await client.get(f"{up.origin}/0", headers=secrets)
        assert answer.body == "elsewhere"
    assert up.last.header("authorization") == "Bearer one"
    assert other.last.header("authorization") is None
    assert other.last.header("cookie") is None
    assert other.last.header("x-kept") == "yes"
    async with upstream(redirecting(307, "/same")) as up:
        await client.get(f"{up.origin}/0", headers=secrets)
    assert (up.last.header("authorization"), up.last.header("cookie")) == ("Bearer one", "a=b")


async def test_accept_anything_is_sent_when_the_client_set_none_and_userinfo_as_basic_auth(client):
    async with upstream(echo) as up:
        await client.get(f"http://us%65r:pa%20ss@{up.address}/")
        assert up.last.header("accept") == "*/*"
        assert up.last.header("authorization") == "Basic " + base64.b64encode(b"user:pa ss").decode()
        await client.get(f"{up.origin}/", headers={"accept": "text/plain"})
        assert up.last.header("accept") == "text/plain"
        assert up.last.header("authorization") is None


async def test_a_query_with_spaces_and_non_ascii_is_percent_encoded_as_utf8(client):
    async with upstream(echo) as up:
        await client.get(f"{up.origin}/pä th?q=a b&é=✓&kept=%2F")
        assert up.last.target == "/p%C3%A4%20th?q=a%20b&%C3%A9=%E2%9C%93&kept=%2F"


@pytest.mark.parametrize(
    "payload",
    [
        rb'{"url":"%s/echo?a\u003d1\u0026b\u003d\u00e9","method":"post","body":"h\u00e9llo \u2713 \ud83d\ude00"}',
        '{"url":"%s/echo?a=1&b=é","method":"Post","body":"héllo ✓ 😀"}'.encode(),
    ],
    ids=["escaped", "raw"],
)
async def test_json_strings_arrive_escaped_in_every_legal_way(client, payload):
    async with upstream(echo) as up:
        answer = await client.execute(payload.replace(b"%s", up.origin.encode()))
    assert answer.status == 200
    assert (up.last.method, up.last.target) == ("POST", "/echo?a=1&b=%C3%A9")
    assert up.last.body == "héllo ✓ 😀".encode()


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"a": [1, None]}, b'{"a": [1, null]}'),
        (12.5, b"12.5"),
        (None, b"null"),
        (True, b"true"),
        ("", b""),
    ],
    ids=str,
)
async def test_a_body_that_is_no_string_is_sent_as_its_json_text(client, body, sent):
    async with upstream(echo) as up:
        await client.get(f"{up.origin}/", method="PUT", body=body)
    assert up.last.body == sent
    assert up.last.header("content-length") == str(len(sent))


async def test_body_base64_is_sent_as_its_exact_bytes(client):
    async with upstream(echo) as up:
        await client.get(f"{up.origin}/", method="PUT", body_base64=base64.b64encode(b"\x00\xff\xfe").decode())
    assert up.last.body == b"\x00\xff\xfe"


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"


async def test_sse_is_collected_whole_and_returned_at_done_though_the_server_keeps_the_connection_open(client):
    events = b'data: {"a": 1}\n\ndata: [DONE]\n\n'
    async with upstream(sending(SSE_HEAD + events, then=hold)) as up:
        answer = await client.get(f"{up.origin}/")
    assert answer.body == events.decode()
    assert answer.payload["is_streaming"] is True


async def test_sse_without_done_is_collected_until_its_end(client):
    events = b'data: {"a": 1}\n\ndata: says data: [DONE] inside\n\n'
    async with upstream(sending(SSE_HEAD + events)) as up:
        answer = await client.get(f"{up.origin}/")
    assert (answer.body, answer.payload["is_streaming"]) == (events.decode(), True)


async def test_another_operation_name_is_treated_as_request(client):
    async with upstream(always(b"done")) as up:
        for operation in ("anything", "", "request"):
            assert (await client.execute({"url": up.origin}, operation=operation)).body == "done"


async def test_pipelined_requests_run_concurrently_and_answer_in_order_of_completion(client):
    """Each request opens the gate for the one sent before it: answered one after another, none would ever end."""
    gates = {path: trio.Event() for path in ("/0", "/1", "/2")}

    async def script(peer):
        while (request := await peer.request()) is not None:
            number = int(request.target[1:])
            if number < 2:
                await gates[f"/{number + 1}"].wait()
            await peer.respond(request.target.encode())
            await trio.testing.wait_all_tasks_blocked(0.01)
            gates[request.target].set()

    async with upstream(script) as up:
        ids = [await client.begin({"url": f"{up.origin}/{number}"}) for number in range(3)]
        answers = [await client.answer() for _ in ids]
    assert [(answer.request_id, answer.body) for answer in answers] == [(ids[2], "/2"), (ids[1], "/1"), (ids[0], "/0")]


async def test_a_body_that_is_not_utf8_comes_as_text_and_as_its_exact_bytes(client):
    body = b"caf\xe9 \xff\x00 \xf0\x9f\x98\x80"
    async with upstream(always(body)) as up:
        answer = await client.get(up.origin)
    assert answer.body == "caf\ufffd \ufffd\x00 😀"
    assert base64.b64decode(answer.payload["body_base64"]) == body


def deflate_raw(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [*ENCODERS.items(), ("deflate", deflate_raw), ("gzip, br", lambda data: brotli.compress(gzip.compress(data)))],
    ids=[*ENCODERS, "raw deflate", "gzip, br"],
)
async def test_a_content_encoding_is_decoded_and_left_out_of_the_delivered_headers(client, encoding, encode):
    text = "encoded ✓ " * 1000
    headers = [("Content-Encoding", encoding), ("X-Kept", "1")]
    encoded = encode(text.encode())  # once: gzip puts the time into it
    async with upstream(always(encoded, headers=headers)) as up:
        answer = await client.get(up.origin)
        assert answer.body == text
        assert answer.headers == {"x-kept": "1"}
        assert up.last.header("accept-encoding") is None  # as the existing runtime: it asks for none
        untouched = await client.get(up.origin, headers={"Accept-Encoding": encoding})
        assert base64.b64decode(untouched.payload["body_base64"]) == encoded
        assert untouched.headers["content-encoding"] == encoding
        assert "content-length" in untouched.headers


async def test_a_repeated_response_header_is_joined_and_all_are_in_header_list_in_order(client):
    headers = [("Set-Cookie", "a=1"), ("X-Two", "x"), ("Set-Cookie", "b=2, c"), ("x-two", "y"), ("Content-Length", "0")]
    async with upstream(always(headers=headers, length=False)) as up:
        answer = await client.get(up.origin)
    assert answer.headers == {"set-cookie": "a=1\nb=2, c", "x-two": "x, y", "content-length": "0"}
    assert answer.payload["header_list"] == [[name.lower(), value] for name, value in headers]


async def test_head_and_chunked_with_trailers_and_close_delimited_bodies(client):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n"
    for sent, body in ((chunked, "abcdefg"), (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end")):
        async with upstream(sending(sent)) as up:
            assert (await client.get(up.origin)).body == body
    async with upstream(always(headers=[("Content-Length", "1000")], length=False)) as up:
        answer = await client.get(up.origin, method="head")
        assert (answer.body, answer.headers["content-length"]) == ("", "1000")


async def test_interim_responses_are_passed_over(client):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with upstream(sending(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as up:
        answer = await client.get(up.origin)
    assert (answer.body, answer.headers) == ("ok", {"content-length": "2"})


async def test_https_with_a_trusted_certificate(client, server_tls):
    async with upstream(echo, tls=server_tls) as up:
        answer = await client.get(f"{up.origin}/secure")
    assert json.loads(answer.body)["path"] == "/secure"


async def test_connections_are_kept_and_used_again_for_the_same_tenant_only(client):
    async with upstream(always(b"ok")) as up:
        for _ in range(3):
            await client.get(up.origin)
        assert up.connections == 1
        await client.execute({"url": up.origin}, tenant_id="another")
        assert up.connections == 2
