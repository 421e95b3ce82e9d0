"""The simulator's side of ``POST /v1/responses``, over a real socket: texts, calls, streams and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulator_client import Answer, question, simulator

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
BROWSE = {"type": "web_search"}


def asking(said: str = "Hello", **fields: object) -> dict[str, Any]:
    return {"model": "any", "input": said} | fields


def events_of(answer: Answer) -> list[dict[str, Any]]:
    *events, rest = answer.body.decode().split("\n\n")
    assert rest == ""
    found = []
    for event in events:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def test_a_text_is_the_same_in_all_apis_and_streamed() -> None:
    async with simulator() as ask:
        whole = await ask(asking(instructions="Be brief."), path=PATH)
        streamed = await ask(asking(instructions="Be brief.", stream=True), path=PATH)
        system = {"role": "system", "content": "Be brief."}
        chat = await ask(question() | {"messages": [system, *question()["messages"]]})
        message = await ask(
            question(system="Be brief.", max_tokens=1000), path="/v1/messages", **{"anthropic-version": "2023-06-01"}
        )
    assert whole.status == 200
    (item,) = whole.json["output"]
    text = item["content"][0]["text"]
    assert len(text.split()) > 30
    assert text == chat.json["choices"][0]["message"]["content"] == message.json["content"][0]["text"]
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(streamed)
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == text
    assert events[-1]["response"]["usage"] == whole.json["usage"]
    assert b"[DONE]" not in streamed.body


async def test_a_call_of_a_tool_and_a_text_in_json() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "name": "place", "schema": schema}
    async with simulator() as ask:
        called = await ask(asking(tools=[TOOL], tool_choice="required"), path=PATH)
        formed = await ask(asking(text={"format": form}), path=PATH)
    (call,) = called.json["output"]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert isinstance(json.loads(call["arguments"]), dict)
    assert set(json.loads(formed.json["output"][0]["content"][0]["text"])) == {"city"}


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, None),
        (asking(""), 400, "input", None),
        (asking(tools=[BROWSE]), 400, "tools[0].type", "invalid_value"),
        (asking(previous_response_id="resp_1"), 400, "previous_response_id", "previous_response_not_found"),
        (asking(model="simulate-quota"), 429, None, "insufficient_quota"),
        (asking(model="simulate-unknown", stream=True), 404, "model", "model_not_found"),
    ],
)
async def test_errors_have_the_envelope_of_the_api(body: object, status: int, param: str, code: str) -> None:
    async with simulator() as ask:
        answer = await ask(body, path=PATH)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (status, param, code)


async def test_a_key_that_is_asked_for() -> None:
    async with simulator(require_key="right") as ask:
        refused = await ask(asking(), path=PATH)
        accepted = await ask(asking(), path=PATH, authorization="Bearer right")
    assert (refused.status, refused.error["code"], accepted.status) == (401, "invalid_api_key", 200)
