"""raise_for_status and json: what an error of the API becomes, and what its message keeps to itself."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_daemon import Peer, ScriptedDaemon, config_for, socket_path

import connector_sdk.async_streaming
import connector_sdk.streaming
from connector_sdk import (
    GET,
    POST,
    APIError,
    AsyncRuntimeClient,
    ConnectorException,
    ErrorClass,
    HTTPResponse,
    RuntimeClient,
    retry_with_backoff,
)
from connector_sdk.error_answer import MAX_BODY_BYTES, Asked
from connector_sdk.wire import ExecuteRequest

__all__ = ["socket_path"]

REQUEST = GET("http://u/?a")
PATIENCE_S = 20
KEY = "sk-live-4711-0815"


def _response(
    status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None, asked: Asked | None = None
) -> HTTPResponse:
    return HTTPResponse(3, status, headers or {}, body, 10, ErrorClass.SUCCESS, attempts=2, asked=asked)


def _error(response: HTTPResponse) -> APIError:
    with pytest.raises(APIError) as raised:
        response.raise_for_status()
    assert str(raised.value).isprintable()
    return raised.value


@pytest.mark.parametrize("status", [200, 204, 299, 301, 304, 399])
def test_what_is_no_error_is_given_back(status: int) -> None:
    response = _response(status)
    assert response.raise_for_status() is response


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, ErrorClass.PERMANENT),
        (401, ErrorClass.PERMANENT),
        (404, ErrorClass.PERMANENT),
        (408, ErrorClass.TIMEOUT),
        (422, ErrorClass.PERMANENT),
        (429, ErrorClass.RATE_LIMITED),
        (499, ErrorClass.PERMANENT),
        (500, ErrorClass.TRANSIENT),
        (503, ErrorClass.TRANSIENT),
        (599, ErrorClass.TRANSIENT),
        (199, ErrorClass.PERMANENT),
        (600, ErrorClass.PERMANENT),
    ],
)
def test_the_class_goes_by_the_status(status: int, error_class: ErrorClass) -> None:
    error = _error(_response(status, b'{"message":\n "no"}', asked=Asked("GET", "http://api/issues")))
    assert str(error) == f'GET http://api/issues: status {status}: {{"message": "no"}}'
    assert (error.error_class, error.status, error.request_id, error.attempts) == (error_class, status, 3, 2)
    assert pickle.loads(pickle.dumps(error)).status == status


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, 0),
        ({"retry-after": "2"}, 2000),
        ({"Retry-After": "1.5"}, 1500),
        ({"retry-after-ms": "20", "retry-after": "7"}, 20),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 2**31 - 1),
        ({"retry-after": "soon"}, 0),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: dict[str, str], wait_ms: int) -> None:
    assert _error(_response(429, headers=headers)).retry_after_ms == wait_ms


def test_without_a_body_and_without_a_request() -> None:
    assert str(_error(_response(502))) == "status 502"
    assert str(_error(_response(502, b" \n", asked=Asked("PUT", "http://u/")))) == "PUT http://u/: status 502"


def test_a_body_of_any_kind_is_shown_by_its_beginning_on_one_line() -> None:
    assert str(_error(_response(500, b"\xef\xbb\xbfa\r\n\tb \x1b[31m\xff"))) == "status 500: a b \ufffd[31m\ufffd"
    assert str(_error(_response(500, b"x" * 201))) == f"status 500: {'x' * 200}…"
    assert len(str(_error(_response(500, b" " * 10_000_000 + b"x" * 100)))) < 300


@given(st.binary(max_size=300), st.text(max_size=300))
def test_no_body_and_no_url_is_too_strange(body: bytes, url: str) -> None:
    asked = Asked("GET", url)
    assert len(str(_error(_response(404, body, asked=asked)))) < 500
    assert str(asked).isprintable()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://api/a?api_key={KEY}", "https://api/a?…"),
        (f"https://api/a?{KEY}#part", "https://api/a?…"),
        ("https://api/a#part", "https://api/a"),
        (f"https://me:{KEY}@api/a@b", "https://api/a@b"),
        (f"https://me@x:{KEY}@api", "https://api"),
        (f"https:\\\\{KEY}@api/", "https:\\\\api/"),
        (f"https:{KEY}:x@api/", "https:api/"),
        ("https://api/" + "a" * 300, "https://api/" + "a" * 188 + "…"),
    ],
)
def test_neither_query_nor_password_is_shown(url: str, shown: str) -> None:
    asked = Asked("GET", url)
    assert str(asked) == f"GET {shown}"
    assert KEY not in str(_error(_response(404, f"Cannot GET {url}".encode(), asked=asked)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", f"Bearer {KEY}"),
        ("X-Api-Key", KEY),
        ("cookie", f"a=b; session={KEY}"),
        ("PRIVATE-TOKEN", KEY),
    ],
)
def test_a_key_that_the_server_sends_back_is_not_shown(name: str, value: str) -> None:
    """As debugging pages do, and messages such as "Incorrect API key provided: sk-…"."""
    asked = Asked("GET", "http://api/a?q=a%2Fb%20secret", [("Accept", "text/plain"), (name, value)])
    body = f"not text/plain: {KEY}, nor 'a/b secret' or a%2Fb%20secret"
    for error in (_error(_response(401, body.encode(), asked=asked)), _no_json(body.encode(), asked)):
        assert KEY not in str(error)
        assert "not text/plain: …, nor '…' or …" in str(error)


def test_a_short_key_is_hidden_as_a_word_and_in_no_other() -> None:
    asked = Asked("GET", "http://api/a?state=open&page=100", [("Authorization", "Bearer sk-1"), ("X-Key", "any")])
    error = _error(_response(401, b"sk-1 is no key, nor sk-11 or any; 100 are open", asked=asked))
    assert str(error).endswith(": … is no key, nor sk-11 or any; 100 are open")


def test_a_copy_of_a_response_has_no_key_in_it() -> None:
    """It may be put into a cache on a disk."""
    headers = [("Authorization", f"Bearer {KEY}")]
    response = _response(404, asked=Asked("GET", f"http://me:{KEY}@api/a?key={KEY}", headers))
    written = pickle.dumps(response)
    assert KEY.encode() not in written
    assert KEY not in repr(response) + repr(response.asked)
    for another in (pickle.loads(written), copy.deepcopy(response)):
        assert another == response
        assert str(_error(another)) == "GET http://api/a?…: status 404"


# --- json ---


def _no_json(body: bytes, asked: Asked | None = None) -> ConnectorException:
    with pytest.raises(ConnectorException) as raised:
        _response(body=body, asked=asked).json()
    assert raised.value.error_class is ErrorClass.PERMANENT
    assert "\n" not in str(raised.value)
    return raised.value


def test_json_is_the_value_of_the_body() -> None:
    assert _response(body=b'{"a": [1]}').json() == {"a": [1]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty, where JSON was to be"),
        (b'{"a', "is no JSON (Unterminated string starting at: line 1 column 2 (char 1)): '{\"a'"),
        (b"<html>\n<body>", "is no JSON (Expecting value: line 1 column 1 (char 0)): '<html> <body>'"),
        (b"\xff", "is no JSON ("),
        (b"[" * 100_000, "is no JSON (nested too deeply): '[[[["),
        (b"1" * 10_000, "is no JSON (Exceeds the limit"),
    ],
)
def test_what_is_no_json_says_so(body: bytes, says: str) -> None:
    error = _no_json(body, Asked("GET", "http://u/?a"))
    assert str(error).startswith(f"GET http://u/?…: the body of the answer, status 200, {says}")


# --- with a daemon ---


def test_a_client_says_what_was_asked_for_and_retries_go_by_it(socket_path: str) -> None:
    statuses = [503, 429, 200]

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, status_code=statuses.pop(0), headers={"Retry-After": "1"}, body='{"busy": true}')

    slept: list[float] = []
    with ScriptedDaemon(script, socket_path), RuntimeClient(config_for(socket_path)) as client:
        request = POST(f"http://u/a?key={KEY}")
        with pytest.raises(APIError) as raised:
            client.execute_http(request).raise_for_status()
        asked = retry_with_backoff(
            lambda: client.execute_http(request).raise_for_status(), initial_backoff_ms=0, sleep=slept.append
        )
        assert asked.json() == {"busy": True}
    assert str(raised.value) == 'POST http://u/a?…: status 503: {"busy": true}'
    assert slept == [1.0]


class Failing:
    """A daemon's script: a head with status 500, one piece, and then what it is told; until ``ended``."""

    def __init__(self, then: str) -> None:
        self.then = then
        self.ended = threading.Event()

    def __call__(self, peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, 500, ("Retry-After", "1"))
        peer.chunk(request, b"because" if self.then != "more" else b"x" * MAX_BODY_BYTES)
        if self.then == "end":
            peer.end(request.request_id)
        elif self.then == "break":
            peer.end(request.request_id, ErrorClass.TRANSIENT, "reset")
        else:
            self.ended.wait(PATIENCE_S)


@pytest.mark.parametrize("then", ["end", "break", "silence", "more"])
def test_a_stream_says_how_its_error_begins_and_waits_no_longer(
    socket_path: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_sdk.streaming, "BODY_WAIT_MS", 20 if then == "silence" else 1000 * PATIENCE_S)
    failing = Failing(then)
    with ScriptedDaemon(failing, socket_path), RuntimeClient(config_for(socket_path)) as client:
        with pytest.raises(APIError) as raised, client.stream_http(REQUEST) as response:
            response.raise_for_status()
        failing.ended.set()
    _check_stream_error(raised.value, then)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("then", ["end", "break", "silence", "more"])
def test_so_does_an_async_one(socket_path: str, then: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_sdk.async_streaming, "BODY_WAIT_MS", 20 if then == "silence" else 1000 * PATIENCE_S)
    failing = Failing(then)
    raised: list[APIError] = []

    async def main() -> None:
        async with AsyncRuntimeClient(config_for(socket_path)) as client:
            for name in ("araise_for_status", "raise_for_status"):
                with pytest.raises(APIError) as error:
                    async with client.stream_http(REQUEST) as response:
                        await _called(getattr(response, name))
                raised.append(error.value)
                failing.ended.set()

    with ScriptedDaemon(failing, socket_path):
        anyio.run(main, backend=backend)
    with_body, without = raised
    _check_stream_error(with_body, then)
    assert (str(without), without.retry_after_ms) == ("GET http://u/?…: status 500", 1000)


async def _called(method: Any) -> None:
    waits = method()
    if waits is not None:
        await waits


def _check_stream_error(error: APIError, then: str) -> None:
    assert (error.error_class, error.status, error.retry_after_ms) == (ErrorClass.TRANSIENT, 500, 1000)
    shown = "x" * 200 + "…" if then == "more" else "because"
    assert str(error) == f"GET http://u/?…: status 500: {shown}"


def test_a_stream_without_an_error_is_given_back_unread(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.answer(request, body="hello")

    async def main() -> None:
        async with AsyncRuntimeClient(config_for(socket_path)) as client, client.stream_http(REQUEST) as response:
            assert response.raise_for_status() is await response.araise_for_status() is response
            assert await response.aread() == b"hello"

    with ScriptedDaemon(script, socket_path):
        with RuntimeClient(config_for(socket_path)) as client, client.stream_http(REQUEST) as response:
            assert response.raise_for_status().read() == b"hello"
        anyio.run(main)
