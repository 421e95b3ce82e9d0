"""The simulator's side of Anthropic's API: messages, streams and errors, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator_client import question, simulator

PATH = "/v1/messages"


def asking(text: str = "Hello", **fields: object) -> dict[str, Any]:
    return question(text, max_tokens=1000, **fields)


def events_of(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    *events, rest = body.decode().split("\n\n")
    assert rest == ""
    lines = [event.split("\n") for event in events]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


async def test_a_question_is_answered_in_the_shape_of_the_api() -> None:
    async with simulator() as ask:
        answer = await ask(asking("Hello there!", model="my-model", system="Be brief."), path=PATH)
    assert answer.status == 200
    message = answer.json
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "my-model")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    (block,) = message["content"]
    assert block["type"] == "text"
    assert len(block["text"].split()) > 40
    assert message["usage"]["input_tokens"] == 6
    assert message["usage"]["output_tokens"] > 40


async def test_a_stream_says_what_the_json_says() -> None:
    async with simulator() as ask:
        answer = await ask(asking(stream=True), path=PATH)
        whole = await ask(asking(), path=PATH)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.body)
    assert all(name == event["type"] for name, event in events)
    start, block_start, *deltas, block_stop, message_delta, stop = (event for _, event in events)
    assert (start["type"], start["message"]["content"], start["message"]["stop_reason"]) == ("message_start", [], None)
    assert block_start["content_block"] == {"type": "text", "text": ""}
    assert {delta["type"] for delta in deltas} == {"content_block_delta"}
    assert "".join(delta["delta"]["text"] for delta in deltas) == whole.json["content"][0]["text"]
    assert (block_stop["type"], stop) == ("content_block_stop", {"type": "message_stop"})
    assert message_delta["delta"]["stop_reason"] == "end_turn"
    assert message_delta["usage"]["output_tokens"] == whole.json["usage"]["output_tokens"]


async def test_a_token_limit_cuts_the_answer_and_says_so() -> None:
    async with simulator() as ask:
        answer = await ask(asking() | {"max_tokens": 5}, path=PATH)
    assert (answer.json["stop_reason"], answer.json["usage"]["output_tokens"]) == ("max_tokens", 5)


async def test_content_and_system_in_parts() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    async with simulator() as ask:
        whole = await ask(asking("Hello", system="Hello"), path=PATH)
        divided = await ask(asking() | {"messages": [{"role": "user", "content": parts}], "system": parts}, path=PATH)
    assert divided.json["content"] == whole.json["content"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        (question(), 400, "invalid_request_error", "max_tokens"),
        (
            asking() | {"messages": [{"role": "system", "content": "x"}]},
            400,
            "invalid_request_error",
            "are user, assistant",
        ),
        (b"{", 400, "invalid_request_error", "not JSON"),
        (asking(model="simulate-quota"), 429, "rate_limit_error", "credit"),
        (asking(model="simulate-unknown"), 404, "not_found_error", "does not exist"),
    ],
)
async def test_errors_have_the_envelope_of_the_api(body: object, status: int, kind: str, says: str) -> None:
    async with simulator() as ask:
        answer = await ask(body, path=PATH)
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", kind)
    assert says in answer.json["error"]["message"]


async def test_another_method_is_refused_in_the_same_envelope() -> None:
    async with simulator() as ask:
        answer = await ask(path=PATH, method="GET")
    assert (answer.status, answer.json["error"]["type"]) == (405, "invalid_request_error")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "right"}, 200),
        ({"authorization": "Bearer right"}, 200),
        ({"x-api-key": "wrong"}, 401),
        ({}, 401),
    ],
)
async def test_a_key_that_is_asked_for(headers: dict[str, str], status: int) -> None:
    async with simulator(require_key="right") as ask:
        answer = await ask(asking(), path=PATH, **headers)
    assert answer.status == status
    if status == 401:
        assert answer.json["error"]["type"] == "authentication_error"
