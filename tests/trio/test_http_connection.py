"""One connection, byte by byte: how a request is written, and how the end of its response is found."""

from __future__ import annotations

import pytest
from http_conversation import OK, RESPONSES, Conversation, header

from vastar_runtime.http.response import MAX_HEADER_BLOCK_BYTES

# --- how a request is written ---


async def test_a_request_is_written_in_origin_form() -> None:
    conversation = Conversation("POST", b"hello")
    await conversation.run(OK + b"Content-Length: 0\r\n\r\n")
    assert bytes(await conversation.upstream.receive_some()) == (
        b"POST /path?query HTTP/1.1\r\nhost: host.example\r\naccept: */*\r\ncontent-length: 5\r\n\r\nhello"
    )


async def test_through_a_proxy_it_is_written_in_absolute_form_with_the_proxys_authorization() -> None:
    conversation = Conversation(
        origin_form_prefix="http://host.example", extra_headers=((b"proxy-authorization", b"Basic x"),)
    )
    await conversation.run(OK + b"Content-Length: 0\r\n\r\n")
    assert bytes(await conversation.upstream.receive_some()) == (
        b"GET http://host.example/path?query HTTP/1.1\r\nhost: host.example\r\naccept: */*\r\n"
        b"proxy-authorization: Basic x\r\n\r\n"
    )


# --- where a response ends ---


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_ends_where_it_says_however_it_arrives(name: str) -> None:
    answer, body = RESPONSES[name]
    for pieces in ([answer], [answer[at : at + 1] for at in range(len(answer))]):
        conversation = Conversation()
        assert await conversation.run(pieces=pieces) == body
        assert conversation.connection.reuse()
        assert await conversation.run(pieces=pieces) == body  # and the next one on the same connection


@pytest.mark.parametrize("fields", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_an_answer_to_head_has_no_body_whatever_it_says(fields: bytes) -> None:
    conversation = Conversation("HEAD")
    assert await conversation.run(OK + fields + b"\r\n") == b""
    assert conversation.connection.reuse()


@pytest.mark.parametrize("status_line", [OK, b"HTTP/1.0 200 OK\r\n"])
@pytest.mark.parametrize("connection", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
async def test_a_body_without_a_length_ends_with_the_connection(status_line: bytes, connection: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(pieces=[status_line + connection + b"\r\nhel", b"lo"], closes=True) == b"hello"
    assert conversation.body == [b"hel", b"lo"]
    assert not conversation.connection.reuse()


@pytest.mark.parametrize("head", [OK + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_connection_that_will_be_closed_is_not_used_again(head: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(head + b"Content-Length: 5\r\n\r\nhello") == b"hello"
    assert not conversation.connection.reuse()


@pytest.mark.parametrize("surplus", [b"\r\n", b"x", OK + b"Content-Length: 0\r\n\r\n"])
async def test_bytes_after_the_response_make_the_connection_unusable(surplus: bytes) -> None:
    conversation = Conversation()
    assert await conversation.run(OK + b"Content-Length: 5\r\n\r\nhello" + surplus) == b"hello"
    assert not conversation.connection.reuse()


async def test_an_unfinished_exchange_makes_the_connection_unusable() -> None:
    conversation = Conversation()
    await conversation.upstream.send_all(OK + b"Content-Length: 5\r\n\r\nhel")
    await conversation.connection.send_request(conversation.request, lambda _: None)
    await conversation.connection.receive_head()
    assert await conversation.connection.receive_body() == b"hel"
    assert not conversation.connection.buffered_end()
    assert not conversation.connection.reuse()


async def test_headers_come_in_lower_case_in_order_and_repeated() -> None:
    conversation = Conversation()
    fields = b"Set-Cookie: a=1\r\nX-Empty:\r\nSET-COOKIE:  b=2 \r\nX-Latin: caf\xe9\r\n"
    await conversation.run(b"HTTP/1.1 418 I'm a teapot\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    assert conversation.head.status_code == 418
    assert conversation.head.headers == (
        (b"set-cookie", b"a=1"), (b"x-empty", b""), (b"set-cookie", b"b=2"), (b"x-latin", b"caf\xe9"),
        (b"content-length", b"0"),
    )  # fmt: skip


async def test_a_header_block_of_many_kilobytes_is_fine() -> None:
    conversation = Conversation()
    cookie = b"c" * (MAX_HEADER_BLOCK_BYTES - 1000)
    await conversation.run(OK + b"Set-Cookie: " + cookie + b"\r\nContent-Length: 0\r\n\r\n")
    assert header(conversation, b"set-cookie") == cookie
