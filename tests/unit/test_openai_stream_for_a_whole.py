"""An API that streams although it was asked not to, as the existing simulator does."""

from __future__ import annotations

import pytest

from connector_sdk import APIError, ConnectorException, ErrorClass
from connector_sdk.chat_answer import whole_chunk


@pytest.mark.parametrize(
    ("body", "todo"),
    [
        (b'data: {"choices": []}\n\n', "it is a stream: use chat_completion_stream"),
        (b"\xef\xbb\xbf\n\ndata:x", "it is a stream: use chat_completion_stream"),
        (b"<html>data: x", "see whether the URL is that of the API"),
        (b"", "see whether the URL is that of the API"),
    ],
)
def test_the_error_says_what_to_do(body: bytes, todo: str) -> None:
    with pytest.raises(ConnectorException) as raised:
        whole_chunk(200, {}, body, 1)
    assert raised.value.error_class is ErrorClass.PERMANENT
    assert str(raised.value).startswith("the answer is no chat completion: '")
    assert str(raised.value).endswith(f"; {todo}")


@pytest.mark.parametrize(("status", "error"), [(200, ConnectorException), (502, APIError)])
def test_what_is_shown_of_a_page_is_one_short_line_that_no_terminal_obeys(
    status: int, error: type[ConnectorException]
) -> None:
    with pytest.raises(error) as raised:
        whole_chunk(status, {}, b"<html>\x1b[31m\x9b2J\r\n" + "\x9b\u202ebad gateway".encode() + b"x" * 10_000, 1)
    assert "<html>\ufffd[31m\ufffd2J \ufffd\ufffdbad gateway" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 350
