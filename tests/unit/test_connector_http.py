"""The http connector's JSON: every way to write the parameters, and the answer's text."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from connector_sdk.wire import MAX_FRAME_BYTES, ErrorClass, ExecuteRequest, ExecuteResponse, encode_message
from vastar_runtime.connectors import CONNECTORS
from vastar_runtime.connectors.base import Outcome
from vastar_runtime.connectors.http import HttpCall, HttpConnector
from vastar_runtime.connectors.http_answer import encode_answer, too_long
from vastar_runtime.connectors.http_parameters import MAX_TIMEOUT_MS
from vastar_runtime.errors import InvalidRequest, RequestError
from vastar_runtime.http.request import OutboundRequest
from vastar_runtime.http.response import ResponseHead

URL = '"url": "http://host.example/path"'


def prepare(payload: bytes | str | dict[str, Any] | None, outcome: Outcome | None = None) -> HttpCall:
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    if isinstance(payload, str):
        payload = payload.encode()
    request = ExecuteRequest(
        request_id=1, tenant_id="tenant", connector_name="http", operation="request", payload=payload
    )
    return HttpConnector().prepare(request, outcome or Outcome())


def outbound(payload: bytes | str | dict[str, Any]) -> OutboundRequest:
    return prepare(payload)._outbound


def refusal(payload: bytes | str | dict[str, Any] | None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        prepare(payload)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_connector_is_registered_under_its_name() -> None:
    assert CONNECTORS["http"].name == "http"


# --- parameters ---


@pytest.mark.parametrize(
    "payload",
    [
        None, b"", b" ", b"null", b"[]", b'["url"]', b"5", b'"text"', b"{", b"{}x", b"{'url': 1}",
        b'{"url": "http://a/"', b"\xff", b'{"url": "http://a/", "body": 01}', b'{"url": "http://a/", "body": nul}',
        b"\xef\xbb\xbf{}", b'{"url" "http://a/"}', b'{"url": "http://a/",}',
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_said_to_be_none(payload: bytes | None) -> None:
    assert refusal(payload).startswith("Invalid HTTP params: ")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"url": "http://a/\xff"}',
        b'{"url": "\xc3("}',
        b'{"url": "http://a/", "method": "\xff"}',
        b'{"url": "http://a/", "headers": {"a": "\xff"}}',
        b'{"url": "http://a/", "headers": {"\xff": "a"}}',
        b'{"url": "http://a/", "body": "\xff"}',
        b'{"url": "http://a/", "body": {"a": ["\xed\xa0\x80"]}}',
        b'{"url": "http://a/", "body_base64": "\xff"}',
        b'{"url": "http://a/", "timeout_ms": "\xff"}',
        b'{"url": "http://a/", "body": "\\ud800"}',
        b'{"url": "http://\\udc00/"}',
    ],
)
def test_text_that_is_no_unicode_is_an_invalid_parameter(payload: bytes) -> None:
    assert refusal(payload).startswith("Invalid HTTP params: ")


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize("member", ["url", "headers", "body", "timeout_ms", "unknown"])
def test_deep_nesting_is_refused_in_whatever_member_it_stands(member: str, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    payload = f'{{"url": "http://a/", "{member}": {nested}}}'
    assert "recursion" in refusal(payload)


@pytest.mark.parametrize("url", ["null", "5", "true", '["http://a/"]', "{}"])
def test_a_missing_or_non_string_url_has_the_known_words(url: str) -> None:
    assert refusal('{"method": "GET"}') == "Missing required field: url"
    assert refusal('{"method": "GET", "url": ' + url + "}") == "Missing required field: url"


def test_the_last_of_two_urls_counts() -> None:
    """As everywhere in JSON; one that is no string counts too."""
    assert str(outbound('{"url": "http://a/", "url": "http://b/"}').url) == "http://b/"
    assert str(outbound('{"url": 5, "url": "http://b/"}').url) == "http://b/"
    assert refusal('{"url": "http://b/", "url": 5}') == "Missing required field: url"


def test_a_url_that_cannot_be_used_is_refused_by_its_own_rules() -> None:
    assert refusal({"url": "file:///etc/passwd"}) == "unsupported URL scheme: file; http and https are supported"
    assert refusal({"url": ""}) == "malformed URL: it has no scheme; it must begin with http:// or https://"


def test_json_escapes_in_every_legal_form_are_undone() -> None:
    request = outbound(
        '{"url": "http:\\/\\/host\\u002fp?a\\u003db\\u0026c=\\u00fc\\ud83d\\ude00ü", "method": "\\u0070ost"}'
    )
    assert str(request.url) == "http://host/p?a=b&c=%C3%BC%F0%9F%98%80%C3%BC"
    assert request.method == "POST"


@pytest.mark.parametrize("method", ["", ', "method": null', ', "method": ""', ', "method": "get"'])
def test_the_default_method_is_get(method: str) -> None:
    assert outbound("{" + URL + method + "}").method == "GET"


@pytest.mark.parametrize(
    ("method", "kind"), [("5", "a number"), ("[]", "an array"), ("{}", "an object"), ("true", "a boolean")]
)
def test_a_method_of_another_type_is_named(method: str, kind: str) -> None:
    message = refusal(f'{{{URL}, "method": {method}}}')
    assert message == f"Invalid HTTP params: method must be a string, not {kind}"


def test_unknown_members_are_ignored() -> None:
    assert outbound('{"x": {"url": 1}, ' + URL + ', "stream": true}').method == "GET"


@pytest.mark.parametrize("headers", ["", ', "headers": null', ', "headers": {}'])
def test_no_headers_are_no_headers(headers: str) -> None:
    assert outbound("{" + URL + headers + "}").headers == ((b"host", b"host.example"), (b"accept", b"*/*"))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ("5", "headers must be an object of strings, not a number"),
        ('"X: y"', "headers must be an object of strings, not a string"),
        ("false", "headers must be an object of strings, not a boolean"),
        ('[["X", "y"]]', "headers must be an object of strings, not an array"),
        ('{"X": 5}', "header 'X' must be a string, not a number"),
        ('{"X": null}', "header 'X' must be a string, not null"),
        ('{"A": "a", "X": ["s3cr3t"]}', "header 'X' must be a string, not an array"),
        ('{"X": {"a": "s3cr3t"}}', "header 'X' must be a string, not an object"),
        ('{"' + "x" * 100 + '": true}', f"header '{'x' * 64}' must be a string, not a boolean"),
    ],
)
def test_headers_of_another_type_are_named(headers: str, message: str) -> None:
    assert refusal(f'{{{URL}, "headers": {headers}}}') == f"Invalid HTTP params: {message}"


def test_header_rules_are_those_of_http() -> None:
    assert refusal({"url": "http://a/", "headers": {"a b": "c"}}) == "illegal header name: 'a b'"
    injected = {"url": "http://a/", "headers": {"a": "s3cr3t\r\nb: c"}}
    assert refusal(injected) == "illegal character in the value of header 'a'"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ('"text"', b"text"),
        ('""', b""),
        ('"\\u00fc\\n\\u0000"', b"\xc3\xbc\n\0"),
        ('"{\\"a\\": 1}"', b'{"a": 1}'),
        ("null", b"null"),
        ("true", b"true"),
        ("false", b"false"),
        ("0", b"0"),
        ("-1.50e+2", b"-1.50e+2"),
        ("123456789012345678901234567890", b"123456789012345678901234567890"),
        ("[1, 2]", b"[1, 2]"),
        ('{"b" : 1,  "a":\t"\\u00fc"}', b'{"b" : 1,  "a":\t"\\u00fc"}'),
        ("{}", b"{}"),
    ],
)
def test_a_body_is_text_or_sent_as_its_json_text(body: str, sent: bytes) -> None:
    request = outbound(f'{{{URL}, "method": "POST", "body":  {body} }}')
    assert request.body == sent
    assert (b"content-length", b"%d" % len(sent)) in request.headers


def test_no_body_is_an_empty_one() -> None:
    assert outbound("{" + URL + ', "method": "POST"}').body == b""


@pytest.mark.parametrize("body", [b"", b"\0\xff\r\n", bytes(range(256))])
def test_body_base64_carries_exact_bytes(body: bytes) -> None:
    assert outbound({"url": "http://a/", "method": "PUT", "body_base64": base64.b64encode(body).decode()}).body == body


@pytest.mark.parametrize(
    "text",
    ['"YQ"', '"YQ==x"', '"Y Q=="', '"YQ==\\n"', '"ü"', '"_-8="', '"Y"', "5", "null", "[]", "{}", "true"],
)
def test_body_base64_that_is_none_is_refused(text: str) -> None:
    assert refusal(f'{{{URL}, "body_base64": {text}}}').startswith("Invalid HTTP params: ")


@pytest.mark.parametrize("body", ['"text"', "null", '""'])
def test_body_and_body_base64_exclude_each_other(body: str) -> None:
    message = refusal(f'{{{URL}, "body": {body}, "body_base64": "YQ=="}}')
    assert message == "Invalid HTTP params: body and body_base64 exclude each other"


@pytest.mark.parametrize(
    ("timeout", "timeout_ms"),
    [
        ("null", None), ("0", None), ("0.0", None), ("-0", None),
        ("1", 1.0), ("250.5", 250.5), ("3e4", 30_000.0), ("1e-300", 1e-300),
        ("18446744073709551616", MAX_TIMEOUT_MS), ("1" + "0" * 400, MAX_TIMEOUT_MS), ("1e300", MAX_TIMEOUT_MS),
    ],
)  # fmt: skip
def test_timeout_ms_is_a_number_and_none_when_zero(timeout: str, timeout_ms: float | None) -> None:
    assert prepare(f'{{{URL}, "timeout_ms": {timeout}}}').timeout_ms == timeout_ms


@pytest.mark.parametrize("timeout", ["-1", "-0.5", "true", "false", '"5"', '""', "[]", "{}", "-1" + "0" * 400])
def test_another_timeout_ms_is_refused(timeout: str) -> None:
    message = refusal(f'{{{URL}, "timeout_ms": {timeout}}}')
    assert message == "Invalid HTTP params: timeout_ms must be a number of milliseconds above 0"


@pytest.mark.parametrize("timeout", ["NaN", "Infinity", "1e999"])
def test_a_timeout_ms_that_is_no_json_number_is_refused(timeout: str) -> None:
    assert refusal(f'{{{URL}, "timeout_ms": {timeout}}}').startswith("Invalid HTTP params: ")


def test_the_outcome_for_the_log_holds_no_query_and_no_userinfo() -> None:
    outcome = Outcome()
    prepare({"url": "https://user:s3cr3t@host.example:444/a/b?key=s3cr3t", "method": "put"}, outcome)
    assert outcome == Outcome(method="PUT", origin="https://host.example:444", path="/a/b")


# --- the answer ---


def head(*headers: tuple[str, str], status: int = 200) -> ResponseHead:
    return ResponseHead(status, tuple((name.encode(), value.encode("latin-1")) for name, value in headers))


def answer(*headers: tuple[str, str], body: bytes = b"") -> dict[str, Any]:
    return json.loads(encode_answer(head(*headers), body, False))


def test_an_answer_has_the_members_of_the_existing_runtime() -> None:
    text = encode_answer(head(("content-type", "a/b"), status=404), "ü\0".encode(), True)
    expected = '{"body":"ü\\u0000","headers":{"content-type":"a/b"},"is_streaming":true,"status_code":404}'
    assert text.decode() == expected


def test_a_repeated_header_is_joined_and_listed_in_order() -> None:
    headers = [("vary", "a"), ("x", "1"), ("vary", "b"), ("vary", "c")]
    got = answer(*headers)
    assert got["headers"] == {"vary": "a, b, c", "x": "1"}
    assert got["header_list"] == [list(pair) for pair in headers]


def test_cookies_are_joined_by_line_ends_since_they_hold_commas() -> None:
    cookies = ["a=1; Expires=Wed, 01 Jan 2031 00:00:00 GMT", "b=2"]
    got = answer(*[("set-cookie", cookie) for cookie in cookies])
    assert got["headers"] == {"set-cookie": "\n".join(cookies)}
    assert got["header_list"] == [["set-cookie", cookie] for cookie in cookies]


def test_without_repeated_headers_there_is_no_list() -> None:
    assert "header_list" not in answer(("a", "1"), ("b", "2"))


def test_a_header_value_that_is_no_utf8_is_latin_1_so_that_no_byte_is_lost() -> None:
    assert answer(("x", "caf\xe9"))["headers"] == {"x": "café"}


def test_a_body_that_is_no_utf8_comes_with_its_exact_bytes() -> None:
    body = b"caf\xe9 \xff\x00"
    got = answer(body=body)
    assert got["body"] == "caf\ufffd \ufffd\0"
    assert base64.b64decode(got["body_base64"]) == body
    assert "body_base64" not in answer(body="café".encode())


@pytest.mark.parametrize("is_text", [True, False])
def test_the_largest_answer_fits_a_frame_and_one_more_byte_is_refused(is_text: bool) -> None:
    """The limit is on the frame, and holds for it exactly enough: what is accepted can be sent."""
    low, high = 0, MAX_FRAME_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        try:
            encode_answer(head(), (b"x" if is_text else b"\xff") * middle, False)
            low = middle
        except RequestError:
            high = middle - 1
    payload = encode_answer(head(), (b"x" if is_text else b"\xff") * low, False)
    frame = encode_message(ExecuteResponse(request_id=2**64 - 1, payload=payload, duration_us=2**64 - 1))
    assert MAX_FRAME_BYTES - 1024 < len(frame) <= MAX_FRAME_BYTES + 4


def test_a_body_that_fits_but_whose_json_text_does_not_is_refused_with_both_sizes() -> None:
    with pytest.raises(RequestError) as caught:
        encode_answer(head(), bytes(2_000_000), False)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert caught.value.message == (
        "response body of 2000000 bytes exceeds, as JSON text of 12000063 bytes, "
        "the frame limit of 10485760 bytes; use streaming"
    )


def test_a_body_over_the_limit_is_named_by_its_declared_size_where_there_is_one() -> None:
    declared = too_long(123456789)
    assert declared.error_class is ErrorClass.PERMANENT
    assert declared.message == (
        "response body of 123456789 bytes exceeds the frame limit of 10485760 bytes; use streaming"
    )
    assert "of at least 10500000 bytes exceeds" in too_long(10_500_000, "at least ").message
