"""The request as it goes out: what is refused, what is added, and what is never said."""

import pytest

from vastar_runtime.errors import InvalidRequest
from vastar_runtime.http.request import METHODS, OutboundRequest, build_request
from vastar_runtime.http.url import parse_url


def build(
    *headers: tuple[str, str], method: str = "GET", body: bytes = b"", url: str = "http://user.example:8080/path"
) -> OutboundRequest:
    return build_request(method, parse_url(url), headers, body)


def test_a_bare_request_gets_host_and_accept() -> None:
    request = build()
    assert request.headers == ((b"host", b"user.example:8080"), (b"accept", b"*/*"))
    assert request.body == b""
    assert request.decodes


def test_the_clients_own_headers_win_and_keep_their_order() -> None:
    request = build(("X-B", "1"), ("Accept", "text/html"), ("HOST", "virtual"), ("x-a", "2"), ("x-b", "3"))
    assert request.headers == (
        (b"x-b", b"1"), (b"accept", b"text/html"), (b"host", b"virtual"), (b"x-a", b"2"), (b"x-b", b"3"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", "a\r\nb", "ü", "a\0", "(a)", "a\n", "{}", '"a"', "a" * 100 + " "]
)
def test_a_header_name_that_is_no_token_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build((name, "s3cr3t"))
    assert caught.value.message == f"illegal header name: {name[:64]!r}"


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nX: y", "a\0b", "\x01", "a\x7f", "a\x0bb", "a\n"])
def test_a_header_value_with_a_control_character_is_refused_and_not_quoted(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(("Authorization", "s3cr3t" + value))
    assert caught.value.message == "illegal character in the value of header 'Authorization'"


def test_half_of_a_surrogate_pair_in_a_value_is_refused_and_not_quoted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(("Cookie", "s3cr3t\ud800"))
    assert caught.value.message == "half of a surrogate pair in the value of header 'Cookie'"


@pytest.mark.parametrize(
    ("value", "sent"), [("", b""), (" a ", b"a"), ("\ta\tb\t", b"a\tb"), ("ü", b"\xc3\xbc"), ("a  b", b"a  b")]
)
def test_a_legal_value_is_sent_without_the_blanks_around_it(value: str, sent: bytes) -> None:
    assert (b"x", sent) in build(("X", value)).headers


def test_host_given_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^Host is given twice$"):
        build(("Host", "a"), ("host", "a"))


def test_upgrade_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^Upgrade: switching protocols is not supported$"):
        build(("Upgrade", "websocket"))


def test_transfer_encoding_chunked_is_ours_to_choose_and_others_are_refused() -> None:
    request = build(("Transfer-Encoding", "Chunked"), method="POST", body=b"abc")
    assert (b"content-length", b"3") in request.headers
    assert b"transfer-encoding" not in dict(request.headers)
    with pytest.raises(InvalidRequest, match=r"^Transfer-Encoding: only 'chunked' can be asked for$"):
        build(("Transfer-Encoding", "gzip, chunked"))


@pytest.mark.parametrize("value", ["3", " 3 "])
def test_a_right_content_length_is_sent_once(value: str) -> None:
    request = build(("Content-Length", value), ("content-length", "3"), method="POST", body=b"abc")
    assert [v for n, v in request.headers if n == b"content-length"] == [b"3"]


@pytest.mark.parametrize("value", ["4", "0", "", "+3", "03", "3, 3", "three", "9" * 100])
def test_a_wrong_content_length_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(("Content-Length", value), method="POST", body=b"abc")
    assert caught.value.message == f"Content-Length given as {value[:32]!r}, but the body has 3 bytes"


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", None), ("HEAD", b"", None), ("DELETE", b"", None), ("OPTIONS", b"", None),
        ("POST", b"", b"0"), ("PUT", b"", b"0"), ("PATCH", b"", b"0"),
        ("GET", b"x", b"1"), ("DELETE", b"xy", b"2"), ("POST", b"xyz", b"3"),
    ],
)  # fmt: skip
def test_content_length_is_sent_where_a_body_is_or_is_expected(method: str, body: bytes, length: bytes | None) -> None:
    assert dict(build(method=method, body=body).headers).get(b"content-length") == length


def test_userinfo_becomes_basic_authorization_unless_the_client_has_its_own() -> None:
    url = "http://user:p%40ss@host/"
    assert (b"authorization", b"Basic dXNlcjpwQHNz") in build(url=url).headers
    own = build(("AUTHORIZATION", "Bearer x"), url=url)
    assert [v for n, v in own.headers if n == b"authorization"] == [b"Bearer x"]


def test_a_client_that_sets_accept_encoding_decodes_itself() -> None:
    assert not build(("Accept-Encoding", "gzip")).decodes


@pytest.mark.parametrize("method", METHODS)
def test_methods_come_in_any_case(method: str) -> None:
    assert build(method=method.lower()).method == method


@pytest.mark.parametrize("method", ["", "CONNECT", "TRACE", "get it", "G\r\nT", "ÄÖ", "x" * 1000])
def test_an_unsupported_method_is_named(method: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(method=method)
    assert caught.value.message == (
        f"unsupported method: {method.upper()[:32]!r}; supported are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    )


def test_only_methods_that_may_be_repeated_are_idempotent() -> None:
    idempotent = {method for method in METHODS if build(method=method).may_repeat}
    assert idempotent == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
