"""Requests built step by step, and questions to a response."""

from __future__ import annotations

import math
from typing import Any

import pytest

from connector_sdk import (
    DELETE,
    GET,
    PATCH,
    POST,
    PUT,
    ConnectorException,
    ErrorClass,
    HTTPRequest,
    HTTPResponse,
    HTTPResponseHelper,
)


def test_the_builder_and_the_object_are_the_same_request() -> None:
    built = (
        POST("http://u/")
        .with_header("X-A", "1")
        .with_body(b"b")
        .with_timeout(5)
        .with_tenant_id("t")
        .with_workspace_id("w")
        .with_trace_id("r")
    )
    assert built == HTTPRequest("POST", "http://u/", {"X-A": "1"}, b"b", 5, "t", "w", "r")


def test_every_method_has_its_builder() -> None:
    assert [build("u").method for build in (GET, POST, PUT, PATCH, DELETE)] == ["GET", "POST", "PUT", "PATCH", "DELETE"]


def test_building_on_a_request_leaves_it_as_it_was() -> None:
    """One request can be the template of many."""
    template = GET("http://u/").with_header("A", "1")
    first, second = template.with_header("B", "2"), template.with_header("a", "3")
    assert template.headers == {"A": "1"}
    assert first.headers == {"A": "1", "B": "2"}
    assert second.headers == {"a": "3"}


def test_json_sets_its_content_type_unless_there_is_one() -> None:
    assert POST("u").with_json({"a": "é"}) == HTTPRequest(
        "POST", "u", {"Content-Type": "application/json"}, '{"a":"é"}'.encode()
    )
    special = POST("u").with_header("content-type", "application/vnd.api+json").with_json([])
    assert special.headers == {"content-type": "application/vnd.api+json"}


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [math.nan, "\ud800", _loop()])
def test_what_json_cannot_say_is_an_invalid_request(value: Any) -> None:
    with pytest.raises(ConnectorException, match="JSON body: ") as e:
        POST("u").with_json(value)
    assert e.value.error_class is ErrorClass.INVALID_REQUEST


def test_a_type_that_json_lacks_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="bytes"):
        POST("u").with_json({"a": b"b"})


def test_secrets_do_not_show_in_a_repr() -> None:
    request = POST("http://u/").with_header("Authorization", "Bearer secret").with_body("secret")
    assert "secret" not in repr(request)
    assert "secret" not in repr(_response(headers={"set-cookie": "secret"}, body=b"secret"))


def _response(status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"") -> HTTPResponse:
    return HTTPResponse(1, status, headers or {}, body, 10, ErrorClass.SUCCESS)


@pytest.mark.parametrize(
    ("status", "family"), [(200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (499, 4), (500, 5), (599, 5), (199, 0)]
)
def test_the_family_of_a_status(status: int, family: int) -> None:
    helper = HTTPResponseHelper
    answers = [is_(_response(status)) for is_ in (helper.is_2xx, helper.is_3xx, helper.is_4xx, helper.is_5xx)]
    assert answers == [family == n for n in (2, 3, 4, 5)]


def test_the_body_as_text_and_as_json() -> None:
    helper = HTTPResponseHelper
    assert helper.get_body_as_string(_response(body="é".encode())) == "é"
    assert helper.get_body_as_string(_response(body=b"\xe9"), "latin-1") == "é"
    assert helper.get_body_as_string(_response(body=b"a\xff")) == "a\ufffd"
    assert helper.get_body_as_json(_response(body=b'{"a": [1]}')) == {"a": [1]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json(body: bytes) -> None:
    with pytest.raises(ValueError):
        HTTPResponseHelper.get_body_as_json(_response(body=body))


def test_a_header_in_any_case() -> None:
    response = _response(headers={"content-type": "a"})
    assert HTTPResponseHelper.get_header(response, "Content-Type") == "a"
    assert HTTPResponseHelper.get_header(response, "X-None") is None
