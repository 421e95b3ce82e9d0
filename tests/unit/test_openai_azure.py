"""Completions of a deployment at Azure, and connectors' own defaults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_stories import HELLO, Chats, chats, saying
from scripted_daemon import ScriptedDaemon, config_for, socket_path

from connector_sdk import ConnectorException, ErrorClass
from connector_sdk.openai import (
    AsyncOpenAIConnector,
    AzureDeployment,
    ChatCompletionRequest,
    Message,
    OpenAIConnector,
)

__all__ = ["chats", "socket_path"]

KEY = "azure-key-0123456789"
NO_MODEL = ChatCompletionRequest(messages=[Message("user", "hi")])


@pytest.mark.parametrize("kind", [OpenAIConnector, AsyncOpenAIConnector])
@pytest.mark.parametrize(
    ("endpoint", "deployment", "url"),
    [
        ("https://r.openai.azure.com", "d", "https://r.openai.azure.com/openai/deployments/d/chat/completions"),
        ("https://r.openai.azure.com/openai/", "d", "https://r.openai.azure.com/openai/deployments/d/chat/completions"),
        ("https://r/openai/v1/", "d", "https://r/openai/deployments/d/chat/completions"),
        ("https://r/openai/v1", "d", "https://r/openai/deployments/d/chat/completions"),
        ("http://h:1/base", "a b/c?d#ü", "http://h:1/base/openai/deployments/a%20b%2Fc%3Fd%23%C3%BC/chat/completions"),
    ],
)
def test_where_a_deployment_is(kind: Any, endpoint: str, deployment: str, url: str) -> None:
    connector = kind.azure(endpoint=endpoint, deployment=deployment, api_version="2024-10-21&x", api_key=KEY)
    request = connector._endpoint.http_request(NO_MODEL, is_stream=True)
    assert request.url == url + "?api-version=2024-10-21%26x"
    assert (request.headers["api-key"], "Authorization" in request.headers) == (KEY, False)
    assert "model" not in json.loads(request.body)
    assert json.loads(connector._endpoint.http_request(HELLO, is_stream=True).body)["model"] == "m"


@pytest.mark.parametrize(
    ("version", "asks"),
    [("2024-02-15-preview", False), ("2024-09-01-preview", True), ("2024-10-21", True), ("preview", True)],
)
def test_versions_that_know_no_usage_of_streams_are_not_asked_for_it(version: str, asks: bool) -> None:
    connector = OpenAIConnector.azure(endpoint="https://r", deployment="d", api_version=version)
    body = json.loads(connector._endpoint.http_request(NO_MODEL, is_stream=True).body or "")
    assert ("stream_options" in body) is asks


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"endpoint": "r.openai.azure.com"}, "endpoint: 'r.openai.azure.com' cannot be used"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"endpoint": "https://r?x=1"}, "endpoint"),
        ({"endpoint": "https://r\n"}, "endpoint"),
        ({"endpoint": "https://[r"}, "endpoint"),
        ({"endpoint": "https://r:99999"}, "endpoint"),
        ({"endpoint": "https://u:hidden@r"}, "endpoint: .*not shown"),
        ({"deployment": ""}, "deployment: ''"),
        ({"deployment": ".."}, "deployment: '..'"),
        ({"deployment": "a\r\nb"}, "deployment"),
        ({"deployment": "x" * 300}, "deployment"),
        ({"api_version": " "}, "api_version"),
        ({"api_key": "a b"}, "api_key"),
    ],
)
def test_what_cannot_be_used_is_refused(settings: dict[str, str], error: str) -> None:
    with pytest.raises(ConnectorException, match=error) as e:
        OpenAIConnector.azure(**{"endpoint": "https://r", "deployment": "d", **settings})  # type: ignore[arg-type]
    assert "hidden" not in str(e.value)


def test_a_completion_and_a_key_that_no_error_shows(chats: Chats, socket_path: str) -> None:
    with ScriptedDaemon(saying("Hellö"), socket_path) as daemon:
        connector = chats.connector("http://r", KEY, azure_deployment=AzureDeployment("d"))
        assert chats.whole(connector, NO_MODEL) == "Hellö"
        daemon.script = lambda peer, request: peer.answer(request, status_code=401, body=f"bad api-key {KEY}")
        for ask in (chats.whole, chats.texts):
            with pytest.raises(ConnectorException, match=r"bad api-key \[api key\]"):
                ask(connector, NO_MODEL)
        chats.close(connector)


def test_requests_take_from_the_connector_what_they_leave_out(chats: Chats, socket_path: str) -> None:
    with ScriptedDaemon(saying("a"), socket_path) as daemon:
        connector = chats.connector(model="big", max_tokens=9, temperature=0.5)
        extra = {"max_tokens": None, "max_completion_tokens": 8, "stream": "never", "seed": 7}
        messages = [Message("user", "hi")]
        for request, wanted in (
            (NO_MODEL, {"model": "big", "max_tokens": 9, "temperature": 0.5}),
            (
                ChatCompletionRequest("small", messages, False, 1, 0),
                {"model": "small", "max_tokens": 1, "temperature": 0},
            ),
            (
                ChatCompletionRequest(messages=messages, extra=extra),
                {"model": "big", "max_completion_tokens": 8, "temperature": 0.5, "seed": 7},
            ),
        ):
            chats.whole(connector, request)
            body = json.loads(daemon.payloads[-1]["body"])
            assert (body.pop("messages"), body.pop("stream")) == ([{"role": "user", "content": "hi"}], False)
            assert body == wanted
        chats.close(connector)


def test_the_connection_test_takes_the_model_of_the_connector(socket_path: str) -> None:
    with ScriptedDaemon(saying("a"), socket_path) as daemon:
        for settings, argument, model in (
            ({}, None, "gpt-4o-mini"),
            ({"model": "m"}, None, "m"),
            ({"model": "m"}, "n", "n"),
        ):
            connector = OpenAIConnector(config=config_for(socket_path), **settings)
            connector.test_connection(argument)
            connector.close()
            assert json.loads(daemon.payloads[-1]["body"])["model"] == model


def test_a_request_that_names_no_model_anywhere() -> None:
    with pytest.raises(ConnectorException, match="model: the request names none, and the connector has none") as e:
        OpenAIConnector().chat_completion(NO_MODEL)
    assert e.value.error_class is ErrorClass.INVALID_REQUEST
