"""What the simulator replies to a conversation: texts, calls of tools, JSON, and where they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest

from vastar_runtime.simulator import chat_request, messages_request, responses_request, voice
from vastar_runtime.simulator.api_error import ApiError
from vastar_runtime.simulator.reply import MAX_STOPS, MAX_TOOLS, Asked, Reply, Tool, ToolCall
from vastar_runtime.simulator.request import Message

TEXT = "One two three. Four five."
WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
FILES = Tool("searchLocalFiles", {})
SUM = Tool("sum", {})
TOOLS = [SUM, WEATHER, FILES]


class Fixed:
    def text_for(self, messages: Sequence[Message]) -> str:
        return TEXT


def reply(said: str | Sequence[Message] = "Hello", **fields: Any) -> Reply:
    messages = [Message("user", said)] if isinstance(said, str) else said
    return voice.Voice(Fixed()).reply(Asked(messages=messages, **fields))


def test_a_text_is_the_source_s_and_counted() -> None:
    assert reply("Hello there!") == Reply(text=TEXT, prompt_tokens=3, completion_tokens=7)


def test_offered_tools_are_counted_however_deep_their_schemas_are() -> None:
    names = len(["get", "weather", "type", "object", "properties", "city", "type", "string", "required", "city"]) - 1
    assert reply(tools=[WEATHER]).prompt_tokens == 1 + names
    assert reply(tools=[WEATHER], tool_use="none", callable_tools=["sum"]).prompt_tokens == 1 + names
    described = Tool("sum", {"minimum": 5, "nullable": None}, "It adds, " * 500)
    assert reply(tools=[described, FILES]).prompt_tokens == 1 + 1 + 4 + 1500 + 1
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"items": deep}
    assert reply(tools=[Tool("sum", deep)]).prompt_tokens == 1 + 1 + 10_000


@pytest.mark.parametrize(
    ("fields", "text", "is_cut", "stopped_at", "tokens"),
    [
        ({"token_limit": 2}, "One two", True, None, 2),
        ({"token_limit": 7}, TEXT, False, None, 7),
        ({"stop": ["three"]}, "One two ", False, "three", 2),
        ({"stop": ["Four", "two", "absent"]}, "One ", False, "two", 1),
        ({"stop": ["two"], "token_limit": 1}, "One ", False, "two", 1),
        ({"stop": ["Four"], "token_limit": 2}, "One two", True, None, 2),
        ({"stop": ["One"]}, "", False, "One", 0),
        ({"stop": [""]}, TEXT, False, None, 7),
    ],
)
def test_a_text_ends_at_its_limit_or_before_a_stop(
    fields: dict[str, Any], text: str, is_cut: bool, stopped_at: str | None, tokens: int
) -> None:
    found = reply(**fields)
    assert (found.text, found.is_cut, found.stopped_at) == (text, is_cut, stopped_at)
    assert found.completion_tokens == tokens


@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("What is the weather in Bern?", "get_weather"),
        ("WEATHER!", "get_weather"),
        ("Please call sum with this", "sum"),
        ("the weather, by get_weather or sum", "sum"),
        ("search my local disk for weather", "searchLocalFiles"),
        ("get it", None),
        ("a summary of weathering", None),
        ("searchlocalfiles", "searchLocalFiles"),
        ("", None),
    ],
)
def test_a_tool_that_the_last_question_mentions_is_called(said: str, called: str | None) -> None:
    found = reply(said, tools=TOOLS)
    assert [call.name for call in found.tool_calls] == ([called] if called else [])
    assert found.text == ("" if called else TEXT)


def test_a_call_has_arguments_that_the_schema_allows_and_is_counted() -> None:
    found = reply("weather", tools=TOOLS)
    assert found.tool_calls == (ToolCall("get_weather", '{"city":"city"}'),)
    assert found.completion_tokens == 1 + 9


def test_a_tool_is_called_when_it_must_be_and_not_when_it_must_not() -> None:
    assert reply(tools=TOOLS, tool_use="required").tool_calls[0].name == "sum"
    assert reply("weather", tools=TOOLS, tool_use="required").tool_calls[0].name == "get_weather"
    assert reply(tools=TOOLS, tool_use="required", callable_tools=["get_weather"]).tool_calls[0].name == "get_weather"
    assert reply("weather", tools=TOOLS, tool_use="none").tool_calls == ()


def test_of_some_that_may_be_called_only_those_are() -> None:
    some = {"tools": TOOLS, "callable_tools": ["get_weather", "searchLocalFiles"]}
    assert reply("sum", **some).tool_calls == ()
    assert reply("sum and files", **some).tool_calls[0].name == "searchLocalFiles"
    assert reply("sum", **some, tool_use="required").tool_calls[0].name == "get_weather"


def test_after_a_result_the_text_quotes_it() -> None:
    asked = [Message("user", "weather"), Message("assistant"), Message("tool", "12 degrees"), Message("tool", "rain")]
    found = reply(asked, tools=TOOLS)
    assert found.tool_calls == ()
    assert "12 degrees" in found.text
    assert "rain" in found.text
    assert reply([*asked, Message("user", "Thanks")], tools=TOOLS).text == TEXT
    long = reply([Message("tool", "x" * 100_000)])
    assert len(long.text) < 3000


def test_a_call_that_the_limit_leaves_no_room_for_is_none() -> None:
    found = reply("weather", tools=TOOLS, token_limit=5)
    assert (found.text, found.tool_calls, found.is_cut, found.completion_tokens) == ("", (), True, 5)


def test_a_text_in_json() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert reply(schema=schema).text == '{"n":1}'
    assert json.loads(reply(schema={}).text) == {"answer": TEXT}
    assert reply(schema=schema, token_limit=1).is_cut
    assert reply([Message("tool", "12")], schema=schema).text == '{"n":1}'


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        (
            {"tools": [SUM, Tool("f", {"$ref": "#/x"})], "callable_tools": ["f"], "tool_use": "required"},
            "tools[1]",
            "'f': $: $ref '#/x' leads nowhere",
        ),
        ({"schema": {"type": "x"}}, None, "format: $: type is none of"),
    ],
)
def test_what_cannot_be_replied_to_is_a_400_that_names_it(fields: dict[str, Any], param: str | None, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        reply(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert says in caught.value.message


# --- what the APIs let through ---


def of_chat(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def of_responses(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


def of_some(of: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    modes = ("auto", "required", "none")
    return [{"mode": mode, "tools": [of(name) for name in names]} for mode, names in product(modes, ["", "a", "ab"])]


def of_messages(name: str) -> dict[str, Any]:
    return {"name": name, "input_schema": {}}


@pytest.mark.parametrize(
    ("parse", "offer", "choices", "stop"),
    [
        (
            chat_request.parse,
            of_chat,
            [
                *("auto", "none", "required", of_chat("a"), of_chat("z"), of_chat("")),
                *({"type": "allowed_tools", "allowed_tools": allowed} for allowed in of_some(of_chat)),
            ],
            "stop",
        ),
        (
            responses_request.parse,
            of_responses,
            [
                *("auto", "none", "required", of_responses("a"), of_responses("z"), of_responses("")),
                *({"type": "allowed_tools"} | allowed for allowed in of_some(of_responses)),
            ],
            "",
        ),
        (
            messages_request.parse,
            of_messages,
            [{"type": kind, "name": name} for kind in ("auto", "any", "none", "tool") for name in ("a", "z")],
            "stop_sequences",
        ),
    ],
)
def test_whatever_an_api_lets_through_can_be_replied_to(
    parse: Callable[[bytes], Any], offer: Callable[[str], dict[str, Any]], choices: list[Any], stop: str
) -> None:
    asked = {"model": "any", "max_tokens": 9, "input": "Hello", "messages": [{"role": "user", "content": "Hello"}]}
    offered = [None, [], [offer("a")], [offer("b"), offer("a")], [offer(f"a{n}") for n in range(MAX_TOOLS + 1)]]
    replied_to = 0
    for tools, choice, stops in product(offered, [None, *choices], [[], ["x"], ["x"] * (MAX_STOPS + 1)]):
        try:
            found = parse(json.dumps(asked | {"tools": tools, "tool_choice": choice, stop: stops}).encode()).asked
        except ApiError:
            continue
        replied_to += 1
        assert len(found.tools) <= MAX_TOOLS
        assert len(found.stop) <= MAX_STOPS
        calls = voice.Voice(Fixed()).reply(found).tool_calls
        assert found.callable_tools is None or all(call.name in found.callable_tools for call in calls)
        assert bool(calls) is (found.tool_use == "required")
    assert replied_to > 15
