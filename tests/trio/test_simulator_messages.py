"""The simulator's side of Anthropic's API: messages, streams and errors, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator_client import Answer, Simulator, question, simulator

PATH = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}


async def post(ask: Simulator, body: object, path: str = PATH, **headers: str) -> Answer:
    return await ask(body, path=path, **VERSION | headers)


def asking(text: str = "Hello", **fields: object) -> dict[str, Any]:
    return question(text, max_tokens=1000) | fields


def events_of(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    *events, rest = body.decode().split("\n\n")
    assert rest == ""
    lines = [event.split("\n") for event in events]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


async def test_a_question_is_answered_in_the_shape_of_the_api() -> None:
    async with simulator() as ask:
        answer = await post(ask, asking("Hello there!", model="my-model", system="Be brief."))
    assert answer.status == 200
    assert answer.headers["request-id"].startswith("req_")
    message = answer.json
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "my-model")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    (block,) = message["content"]
    assert block["type"] == "text"
    assert len(block["text"].split()) > 30
    assert message["usage"]["input_tokens"] == 6
    assert message["usage"]["output_tokens"] > 30


async def test_a_stream_says_what_the_json_says() -> None:
    async with simulator() as ask:
        answer = await post(ask, asking(stream=True))
        whole = await post(ask, asking())
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.body)
    assert all(name == event["type"] for name, event in events)
    start, ping, block_start, *deltas, block_stop, message_delta, stop = (event for _, event in events)
    assert [event["type"] for event in (start, ping, block_start, block_stop, message_delta, stop)] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(delta["delta"]["text"] for delta in deltas) == whole.json["content"][0]["text"]
    assert message_delta["usage"]["output_tokens"] == whole.json["usage"]["output_tokens"]


async def test_content_and_system_in_parts() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    async with simulator() as ask:
        whole = await post(ask, asking("Hello", system="Hello"))
        divided = await post(ask, asking(messages=[{"role": "user", "content": parts}], system=parts))
    assert divided.json["content"] == whole.json["content"]


async def test_tokens_are_counted_without_an_answer() -> None:
    body = question("Hello there!", system="Be brief.")
    tool = {"name": "weather", "description": "How warm it is.", "input_schema": {"type": "object"}}
    async with simulator() as ask:
        answer = await post(ask, body, path=f"{PATH}/count_tokens")
        offered = await post(ask, body | {"tools": [tool]}, path=f"{PATH}/count_tokens")
        wrong = await post(ask, body | {"messages": []}, path=f"{PATH}/count_tokens")
    assert (answer.status, answer.json) == (200, {"input_tokens": 6})
    assert (offered.status, offered.json) == (200, {"input_tokens": 6 + 8})
    assert (wrong.status, wrong.json["type"], wrong.json["error"]["type"]) == (400, "error", "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        (question(), 400, "invalid_request_error", "max_tokens"),
        (asking(messages=[{"role": "system", "content": "x"}]), 400, "invalid_request_error", "top-level 'system'"),
        (b"{", 400, "invalid_request_error", "not JSON"),
        (asking(model="simulate-quota"), 429, "rate_limit_error", "credit"),
        (asking(model="simulate-unknown"), 404, "not_found_error", "does not exist"),
    ],
)
async def test_errors_have_the_envelope_of_the_api(body: object, status: int, kind: str, says: str) -> None:
    async with simulator() as ask:
        answer = await post(ask, body)
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", kind)
    assert says in answer.json["error"]["message"]
    assert answer.json["request_id"] == answer.headers["request-id"]


async def test_another_method_is_refused_in_the_same_envelope() -> None:
    async with simulator() as ask:
        answer = await ask(path=PATH, method="GET")
    assert (answer.status, answer.json["error"]["type"]) == (405, "invalid_request_error")


async def test_on_a_path_that_there_is_not_the_version_tells_whose_envelope_it_is() -> None:
    async with simulator() as ask:
        files = await ask(path="/v1/files", method="GET", **VERSION)
        busy = await ask(path="/v1/skills", method="GET", **VERSION, **{"X-Simulate": "status=529"})
        others = [
            await ask(path="/v1/files", method="GET"),
            await ask(path="/openai/v1/files", method="GET", **VERSION),
            await ask({}, path="/v1/chat/completions", **VERSION),
        ]
        customer = await ask(path="/v1/customers/unknown", method="GET", **VERSION)
    assert [(answer.status, answer.json["error"]["type"]) for answer in (files, busy)] == [
        (404, "not_found_error"),
        (529, "overloaded_error"),
    ]
    assert files.json["request_id"] == files.headers["request-id"]
    assert [(answer.status, answer.error["type"]) for answer in others] == [
        (status, "invalid_request_error") for status in (404, 404, 400)
    ]
    assert "request_id" not in customer.json


async def test_the_version_must_be_said() -> None:
    async with simulator() as ask:
        answer = await ask(asking(), path=PATH)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert "anthropic-version: header is required" in answer.json["error"]["message"]


async def test_a_key_that_is_asked_for() -> None:
    given = [{"x-api-key": "right"}, {"authorization": "Bearer right"}, {"x-api-key": "wrong"}, {}]
    async with simulator(require_key="right") as ask:
        answers = [await post(ask, asking(), **headers) for headers in given]
    assert [answer.status for answer in answers] == [200, 200, 401, 401]
    assert {answer.json["error"]["type"] for answer in answers[2:]} == {"authentication_error"}
