"""curl's options, and the request that they mean."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import click
import pytest

from connector_sdk import ConnectorException, ErrorClass, Headers
from vastar_runtime.cli import request_input
from vastar_runtime.cli.request_input import MAX_BODY_BYTES, Data, build

URL = "http://h/p"
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def built(
    *headers: str,
    data: dict[Data, list[str]] | None = None,
    stdin: bytes = b"",
    method: str | None = None,
    **options: Any,
) -> tuple[str, list[tuple[str, str]], bytes | None]:
    request = build(method, URL, headers=headers, data=tuple((data or {}).items()), stdin=io.BytesIO(stdin), **options)
    assert isinstance(request.headers, Headers)
    assert not isinstance(request.body, str)
    return request.method, request.headers.multi_items(), request.body


def body(kind: Data, *values: str, stdin: bytes = b"") -> bytes | None:
    return built(data={kind: list(values)}, stdin=stdin)[2]


def test_the_method_is_what_the_other_options_make_it_unless_it_is_named() -> None:
    assert built() == ("GET", [], None)
    assert built(data={Data.TEXT: []}) == ("GET", [], None)
    assert built(data={Data.TEXT: ["a=1"]}) == ("POST", [FORM], b"a=1")
    assert built(data={Data.TEXT: [""]}) == ("POST", [FORM], b"")
    assert built(is_head=True)[0] == "HEAD"
    assert built(is_head=True, method="GET")[0] == "GET"
    assert built(data={Data.TEXT: ["a"]}, method="PATCH")[0] == "PATCH"


def test_several_pieces_of_a_form_are_joined_and_of_json_put_together() -> None:
    assert body(Data.TEXT, "a=1", "b=2") == b"a=1&b=2"
    assert body(Data.BINARY, "a", "b") == b"a&b"
    assert body(Data.JSON, '{"a":', "1}") == b'{"a":1}'


def test_files_and_standard_input_are_read_and_their_line_ends_left_out_of_a_text(tmp_path: Path) -> None:
    file = tmp_path / "body.txt"
    file.write_bytes(b"one\r\ntwo\0\xff\n")
    assert body(Data.TEXT, f"@{file}", "x") == b"onetwo\xff&x"
    assert body(Data.BINARY, f"@{file}") == file.read_bytes()
    assert body(Data.JSON, f"@{file}") == file.read_bytes()
    for name in ("-", "@-"):
        assert body(Data.TEXT, name, stdin=b"a\nb\n") == b"ab"
        assert body(Data.BINARY, name, stdin=b"a\nb\n") == b"a\nb\n"
        assert body(Data.RAW, name, stdin=b"never read") == name.encode()


def test_text_goes_out_as_the_bytes_that_the_shell_gave() -> None:
    assert body(Data.TEXT, os.fsdecode(b"\xff\r\n")) == b"\xff\r\n"
    assert body(Data.TEXT, "-x") == b"-x"
    assert body(Data.RAW, "@x") == b"@x"


@pytest.mark.parametrize("name", ["@", "@/nowhere/body", "@/tmp", "@a\0b"])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(click.BadParameter, match=r"^cannot read ") as caught:
        body(Data.TEXT, name)
    assert caught.value.param_hint == "'--data'"
    assert repr(name[1:]) in str(caught.value)


def test_a_closed_standard_input_is_said_to_be_closed() -> None:
    with pytest.raises(click.BadParameter, match="cannot read '-': standard input is closed"):
        build(None, URL, data=((Data.TEXT, ("-",)),), stdin=None)


def test_no_more_is_read_than_a_request_can_carry(tmp_path: Path) -> None:
    with pytest.raises(ConnectorException, match=f"longer than {MAX_BODY_BYTES} bytes") as caught:
        body(Data.BINARY, "@/dev/zero")
    assert caught.value.error_class is ErrorClass.INVALID_REQUEST
    half = tmp_path / "half"
    half.write_bytes(bytes(MAX_BODY_BYTES // 2))
    assert len(body(Data.JSON, f"@{half}", f"@{half}") or b"") == MAX_BODY_BYTES
    with pytest.raises(ConnectorException):
        body(Data.BINARY, f"@{half}", f"@{half}")


def test_a_text_is_never_cut_where_its_line_ends_make_it_look_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_input, "MAX_BODY_BYTES", 8)
    file = tmp_path / "lines"
    file.write_bytes(b"123\n567\n")
    assert body(Data.TEXT, f"@{file}") == b"123567"
    file.write_bytes(b"123\n567\n" + b"9")
    for name in (f"@{file}", "-"):
        with pytest.raises(ConnectorException, match="with its line ends, is longer than 8 bytes") as caught:
            body(Data.TEXT, name, stdin=file.read_bytes())
        assert caught.value.error_class is ErrorClass.INVALID_REQUEST


def test_headers_are_written_as_curl_has_them() -> None:
    assert built("A:1", "b :  two words ", "Empty;", "a: 3")[1] == [
        ("A", "1"),
        ("b", "two words"),
        ("Empty", ""),
        ("a", "3"),
    ]


def test_a_header_that_is_given_or_taken_away_is_not_added() -> None:
    data = {Data.JSON: ["{}"]}
    assert built(data=data)[1] == [("Content-Type", "application/json"), ("Accept", "application/json")]
    assert built("accept: text/plain", data=data)[1] == [
        ("accept", "text/plain"),
        ("Content-Type", "application/json"),
    ]
    assert built("content-type:", "Accept: */*", data=data)[1] == [("Accept", "*/*")]
    assert built(user="me:a:b")[1] == [("Authorization", "Basic bWU6YTpi")]
    assert built("authorization: mine", user="me:secret")[1] == [("authorization", "mine")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Bearer secret", "number 2 is no 'Name: value'"),
        (": secret", "number 2 is no 'Name: value'"),
        ("Host:", "number 2 has no value; 'Name;' sends a header without one"),
        ("accept:", "number 2 cannot leave out Accept: the daemon sends 'Accept: */*' where there is none"),
    ],
)
def test_what_is_no_header_is_not_quoted_since_it_may_be_a_key(header: str, words: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        built("A: 1", header)
    assert words in caught.value.message
    assert "secret" not in caught.value.message


def test_a_header_whose_bytes_are_no_text_is_told_in_plain_words() -> None:
    with pytest.raises(click.BadParameter, match=r"^number 2 is no UTF-8 text \(byte 0xe9\)$"):
        built("A: é", os.fsdecode(b"X: caf\xe9"))


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(click.UsageError, match="--data and --data-binary cannot be used together"):
        built(data={Data.TEXT: ["a"], Data.RAW: [], Data.BINARY: ["b"]})
    with pytest.raises(click.UsageError, match="--head asks for no body, and --data-json gives one"):
        built(data={Data.JSON: ["{}"]}, is_head=True)
    with pytest.raises(click.BadParameter, match="write NAME:PASSWORD"):
        built(user="me")


@pytest.mark.parametrize(
    ("given", "sent"),
    [("localhost:1/x", "http://localhost:1/x"), ("https://h", "https://h"), ("ftp://h", "ftp://h"), ("", "")],
)
def test_a_url_without_a_scheme_is_one_of_http(given: str, sent: str) -> None:
    assert build(None, given, stdin=None).url == sent
