"""A request with credentials: its own headers stay, unless they are replaced, and its lines say the same as they."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.credentials import with_credentials
from vastar_runtime.http.request import OutboundRequest, build_request, written
from vastar_runtime.http.url import parse_url

KEY = (b"authorization", b"Bearer sk-1", False)


def request(url: str = "https://a.example/", body: bytes = b"", **headers: str) -> OutboundRequest:
    method = "POST" if body else "GET"
    return build_request(method, parse_url(url), [(n.replace("_", "-"), v) for n, v in headers.items()], body)


def test_a_credential_stands_behind_the_requests_own_headers() -> None:
    sent = with_credentials(request(body=b"{}", X_Trace="1"), [KEY, (b"x-api-key", b"sk-2", False)])
    assert sent.lines == (
        b"host: a.example\r\nx-trace: 1\r\naccept: */*\r\ncontent-length: 2\r\n"
        b"authorization: Bearer sk-1\r\nx-api-key: sk-2\r\n"
    )


def test_the_requests_own_header_stays() -> None:
    own = request(AUTHORIZATION="Bearer mine")
    assert with_credentials(own, [KEY]) is own


def test_a_password_in_the_url_is_the_requests_own() -> None:
    own = request("https://user:password@a.example/")
    assert with_credentials(own, [KEY]) is own
    sent = with_credentials(own, [(b"authorization", b"Bearer sk-1", True)])
    assert b"Basic" not in sent.lines


def test_override_replaces_all_of_that_name() -> None:
    headers = [("X-Api-Key", "1"), ("X-Other", "2"), ("x-api-key", "3")]
    own = build_request("GET", parse_url("https://a.example/"), headers, b"")
    sent = with_credentials(own, [(b"x-api-key", b"sk-1", True)])
    assert sent.lines == b"host: a.example\r\nx-other: 2\r\naccept: */*\r\nx-api-key: sk-1\r\n"


def test_of_two_for_the_same_header_the_first_counts() -> None:
    sent = with_credentials(request(), [KEY, (b"authorization", b"Bearer sk-2", True)])
    assert sent.headers[-1] == (b"authorization", b"Bearer sk-1")
    assert b"sk-2" not in sent.lines


def test_without_credentials_the_request_is_the_same_one() -> None:
    own = request()
    assert with_credentials(own, []) is own


NAMES = st.sampled_from([b"host", b"accept", b"authorization", b"x-api-key", b"cookie", b"x"])
VALUES = st.binary(min_size=1, max_size=5).map(bytes.hex).map(str.encode)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(tuple)
PUT_IN = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5)


@given(HEADERS, PUT_IN)
def test_any_headers_with_any_credentials(
    own: tuple[tuple[bytes, bytes], ...], values: list[tuple[bytes, bytes, bool]]
) -> None:
    before = OutboundRequest(
        "PUT", parse_url("https://a.example/x"), own, b"body", True, False, written(own), closes=False
    )
    after = with_credentials(before, values)
    assert after.lines == written(after.headers)
    assert (after.method, after.url, after.body, after.decodes) == (before.method, before.url, b"body", True)
    for name in {name for name, _ in (*own, *after.headers)} | {name for name, _, _ in values}:
        mine = [value for header, value in own if header == name]
        theirs = [(value, override) for header, value, override in values if header == name]
        fitting = [value for value, override in theirs if override or not mine]
        assert [value for header, value in after.headers if header == name] == (fitting[:1] or mine)
    assert before.headers == own
