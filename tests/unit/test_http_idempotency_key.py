"""A client that gives an Idempotency-Key vouches for every repetition, wherever the request is redirected to."""

import pytest

from vastar_runtime.http.redirects import next_request
from vastar_runtime.http.request import OutboundRequest, build_request
from vastar_runtime.http.url import parse_url


def post(*headers: tuple[str, str]) -> OutboundRequest:
    return build_request("POST", parse_url("https://a.example/x"), headers, b"body")


@pytest.mark.parametrize(
    ("headers", "may_repeat"),
    [
        ([], False),
        ([("Idempotency-Key", "8e03978e")], True),
        ([("IDEMPOTENCY-KEY", '"quoted"')], True),
        ([("Idempotency-Key", "")], False),
        ([("Idempotency-Key", " \t ")], False),
        ([("Idempotency-Key", ""), ("Idempotency-Key", "1")], True),
        ([("X-Idempotency-Key", "1")], False),
    ],
)
def test_a_key_vouches_and_an_empty_one_does_not(headers: list[tuple[str, str]], may_repeat: bool) -> None:
    assert post(*headers).may_repeat is may_repeat


@pytest.mark.parametrize("location", ["/next", "https://other.example/", "http://a.example/"])
@pytest.mark.parametrize("key", ["8e03978e", ""])
def test_it_survives_redirects_also_to_another_origin(location: str, key: str) -> None:
    request: OutboundRequest | None = post(("Idempotency-Key", key), ("Authorization", "Bearer s3cr3t"))
    for status in (307, 308):
        assert request is not None
        request = next_request(request, status, ((b"location", location.encode()),))
    assert request is not None
    assert (request.method, request.body) == ("POST", b"body")
    assert (b"idempotency-key", key.encode()) in request.headers
    assert request.may_repeat is bool(key)
