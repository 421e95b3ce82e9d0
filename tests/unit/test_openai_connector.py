"""OpenAIConnector: what it asks the API for, and what it makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from scripted_daemon import Peer, ScriptedDaemon, config_for, error_frame, socket_path

from connector_sdk import APIError, ConnectorException, ErrorClass, StreamError
from connector_sdk.openai import ChatCompletionRequest, Message, OpenAIConnector
from connector_sdk.wire import ExecuteRequest

__all__ = ["socket_path"]

KEY = "sk-secret-0123456789"
HELLO = ChatCompletionRequest("m", [Message("user", "hi")])
COMPLETION = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Hellö"}}]})
STREAM = "".join(f'data: {{"choices": [{{"delta": {{"content": "{text}"}}}}]}}\n\n' for text in ("Hel", "lö"))
EVENTS = {"content-type": "text/event-stream"}

Upstream = Callable[..., ScriptedDaemon]


@pytest.fixture
def upstream(socket_path: str) -> Upstream:
    """A daemon whose upstream gives this answer to everything."""

    def answering(body: str, status_code: int = 200, headers: dict[str, str] | None = None) -> ScriptedDaemon:
        def script(peer: Peer, request: ExecuteRequest) -> None:
            peer.answer(request, status_code=status_code, headers=headers or {}, body=body)

        return ScriptedDaemon(script, socket_path)

    return answering


def _connector(daemon: ScriptedDaemon, *arguments: Any, **settings: Any) -> OpenAIConnector:
    assert daemon.path is not None
    return OpenAIConnector(*arguments, config=config_for(daemon.path), **{"max_retries": 0, **settings})


def _sent(daemon: ScriptedDaemon) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(daemon.payloads[-1]["body"])
    return body


def test_a_completion(upstream: Upstream) -> None:
    with upstream(COMPLETION) as daemon, _connector(daemon, api_key=KEY) as connector:
        request = ChatCompletionRequest(
            "m", [Message("system", "be brief"), {"role": "user", "content": "hi"}], True, 10, 0.0
        )
        assert connector.chat_completion(request) == "Hellö"
    assert _sent(daemon) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "stream": False,
        "max_tokens": 10,
        "temperature": 0.0,
    }
    payload = daemon.payloads[-1]
    assert (payload["method"], payload["url"], payload["timeout_ms"]) == (
        "POST",
        "http://localhost:4545/v1/chat/completions",
        300_000,
    )
    assert payload["headers"] == {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": f"Bearer {KEY}",
    }


def test_a_stream(upstream: Upstream) -> None:
    with upstream(STREAM, headers=EVENTS) as daemon, _connector(daemon, timeout_ms=7) as connector:
        assert list(connector.chat_completion_stream(HELLO)) == ["Hel", "lö"]
    assert _sent(daemon) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert daemon.payloads[-1]["headers"]["Accept"] == "text/event-stream"
    assert daemon.payloads[-1]["timeout_ms"] == 7


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h/", "http://h/v1/chat/completions"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://h/proxy", "http://h/proxy/v1/chat/completions"),
    ],
)
def test_the_base_url_with_and_without_v1(upstream: Upstream, base_url: str, url: str) -> None:
    with upstream(COMPLETION) as daemon, _connector(daemon, base_url) as connector:
        connector.chat_completion(HELLO)
    assert daemon.payloads[-1]["url"] == url


@pytest.mark.parametrize("key", [None, ""])
def test_no_key_no_header(upstream: Upstream, key: str | None) -> None:
    with upstream(COMPLETION) as daemon, _connector(daemon, api_key=key) as connector:
        connector.chat_completion(HELLO)
    assert "Authorization" not in daemon.payloads[-1]["headers"]


def test_the_connection_test_asks_for_little(upstream: Upstream) -> None:
    with upstream(COMPLETION) as daemon, _connector(daemon) as connector:
        assert connector.test_connection() == "Hellö"
    assert _sent(daemon)["max_tokens"] <= 16


def test_a_server_that_knows_no_streams(upstream: Upstream) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    with upstream(COMPLETION, headers=headers) as daemon, _connector(daemon) as connector:
        assert list(connector.chat_completion_stream(HELLO)) == ["Hellö"]


@pytest.mark.parametrize("message", ['{"content": null, "tool_calls": []}', '{"role": "assistant"}'])
def test_an_answer_without_text_is_empty(upstream: Upstream, message: str) -> None:
    with upstream(f'{{"choices": [{{"message": {message}}}]}}') as daemon, _connector(daemon) as connector:
        assert connector.chat_completion(HELLO) == ""


@pytest.mark.parametrize(
    "ask",
    [
        lambda connector: connector.test_connection(),
        lambda connector: connector.chat_completion(HELLO),
        lambda connector: list(connector.chat_completion_stream(HELLO)),
    ],
)
@pytest.mark.parametrize(
    ("status", "kind", "code", "is_retryable"),
    [
        (400, "insufficient_quota", "insufficient_quota", False),
        (401, "invalid_request_error", "invalid_api_key", False),
        (404, "invalid_request_error", "model_not_found", False),
        (429, "requests", "rate_limit_exceeded", True),
        (500, "server_error", None, True),
    ],
)
def test_an_error_of_the_api(
    upstream: Upstream,
    status: int,
    kind: str,
    code: str | None,
    is_retryable: bool,
    ask: Callable[[OpenAIConnector], object],
) -> None:
    body = json.dumps({"error": {"message": "what is wrong", "type": kind, "code": code, "param": "model"}})
    with upstream(body, status) as daemon, _connector(daemon) as connector:
        with pytest.raises(APIError) as e:
            ask(connector)
        error = e.value
        assert (error.status, error.type, error.code, error.param) == (status, kind, code, "model")
        assert (error.message, error.is_retryable()) == ("what is wrong", is_retryable)
        assert error.request_id == daemon.requests[0].request_id


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>\n<h1>Bad Gateway</h1>", "the API answered with status 502: <html> <h1>Bad Gateway</h1>"),
        ("", "the API answered with status 502 and no body"),
        ("x" * 5000, "the API answered with status 502: " + "x" * 200 + "…"),
        ("[1]", "the API answered with status 502: [1]"),
        ('{"detail": "no"}', 'the API answered with status 502: {"detail": "no"}'),
        ('{"message": "flat"}', "flat"),
        ('{"error": "bare"}', "bare"),
        ("[" * 100_000, "the API answered with status 502: " + "[" * 200 + "…"),
    ],
)
def test_an_error_that_is_not_in_the_form_of_the_api(upstream: Upstream, body: str, message: str) -> None:
    with upstream(body, 502) as daemon, _connector(daemon) as connector:
        with pytest.raises(APIError) as e:
            connector.chat_completion(HELLO)
        assert (str(e.value), e.value.status, e.value.is_retryable()) == (message, 502, True)


def test_a_completion_behind_a_byte_order_mark(upstream: Upstream) -> None:
    with upstream("\ufeff" + COMPLETION) as daemon, _connector(daemon) as connector:
        assert connector.chat_completion(HELLO) == "Hellö"


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": 7}]}', '{"choices": 7}']
)
def test_an_answer_that_is_no_completion(upstream: Upstream, body: str) -> None:
    with upstream(body) as daemon, _connector(daemon) as connector:
        with pytest.raises(ConnectorException, match=r"no chat completion: .*whether the URL is that of the API") as e:
            connector.chat_completion(HELLO)
        assert e.value.error_class is ErrorClass.PERMANENT


def test_an_error_with_status_200(upstream: Upstream) -> None:
    with (
        upstream('{"error": {"message": "busy", "code": 503}}') as daemon,
        _connector(daemon) as connector,
        pytest.raises(APIError, match="busy"),
    ):
        connector.chat_completion(HELLO)


def test_an_error_in_the_middle_of_a_stream_comes_after_the_text_before_it(upstream: Upstream) -> None:
    body = STREAM + 'data: {"error": {"message": "out of luck", "type": "server_error"}}\n\n'
    with upstream(body, headers=EVENTS) as daemon, _connector(daemon) as connector:
        stream = connector.chat_completion_stream(HELLO)
        assert [next(stream), next(stream)] == ["Hel", "lö"]
        with pytest.raises(APIError, match="out of luck"):
            next(stream)


def test_a_stream_cut_inside_an_event(upstream: Upstream) -> None:
    with (
        upstream(STREAM[:-10], headers=EVENTS) as daemon,
        _connector(daemon) as connector,
        pytest.raises(StreamError, match="broke off"),
    ):
        list(connector.chat_completion_stream(HELLO))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}})),
        (401, json.dumps({"error": {"message": "no", "type": KEY, "code": KEY, "param": KEY}})),
        (401, "x" * 190 + KEY),
        (401, f"{KEY} and {KEY}"),
        (200, f"Authorization: Bearer {KEY}"),
    ],
)
def test_the_key_is_in_no_exception(upstream: Upstream, status: int, body: str) -> None:
    """Even when the upstream quotes it, or the cut of a long body goes through it."""
    with upstream(body, status) as daemon, _connector(daemon, api_key=KEY) as connector:
        with pytest.raises(ConnectorException) as e:
            connector.chat_completion(HELLO)
        shown = f"{e.value} {e.value!r} {e.value.args} {connector!r} {vars(e.value)}"
        assert KEY[:8] not in shown
        assert "[api key]" in shown


def test_the_key_is_in_no_message_of_the_daemon(socket_path: str) -> None:
    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.send(error_frame(request.request_id, ErrorClass.INVALID_REQUEST, f"bad value 'Bearer {KEY}'"))

    with ScriptedDaemon(script, socket_path) as daemon, _connector(daemon, api_key=KEY) as connector:
        with pytest.raises(ConnectorException) as e:
            list(connector.chat_completion_stream(HELLO))
        assert str(e.value) == "bad value 'Bearer [api key]'"


def test_a_short_key_is_hidden_as_a_word_and_in_no_other(upstream: Upstream) -> None:
    said = json.dumps({"error": {"message": "the company refuses any, 'any' and Bearer any"}})
    with (
        upstream(said, 401) as daemon,
        _connector(daemon, api_key="any") as connector,
        pytest.raises(APIError) as e,
    ):
        connector.chat_completion(HELLO)
    assert str(e.value) == "the company refuses [api key], '[api key]' and Bearer [api key]"


@pytest.mark.parametrize("key", [KEY + "\n", "a b", "schlüssel", "\0"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConnectorException, match="api_key") as e:
        OpenAIConnector(api_key=key)
    assert key not in str(e.value)


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match="base_url"):
        OpenAIConnector(None)
    with pytest.raises(TypeError, match="api_key"):
        OpenAIConnector(api_key=b"k")


def test_a_closed_connector_says_so(upstream: Upstream) -> None:
    with upstream(COMPLETION) as daemon:
        connector = _connector(daemon)
        connector.close()
        with pytest.raises(ConnectorException, match="closed"):
            connector.chat_completion(HELLO)


def test_no_daemon(socket_path: str) -> None:
    connector = OpenAIConnector(config=config_for(socket_path))
    with pytest.raises(ConnectorException, match="vastar-runtime start"):
        connector.__enter__()
