"""``POST /v1/responses``: what is read of a request, how a refusal names the field, and the order of the events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.simulator import responses_api
from vastar_runtime.simulator.api_error import ApiError
from vastar_runtime.simulator.reply import MAX_TOOLS, Asked, Reply, Tool, ToolCall
from vastar_runtime.simulator.request import Message
from vastar_runtime.simulator.responses_request import MAX_SCHEMA_DEPTH, ResponsesRequest

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Bandung"}'}
RETURNED = {"type": "function_call_output", "call_id": "call_1", "output": "31 degrees"}

FIELDS = [field.name for field in msgspec.structs.fields(ResponsesRequest)]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "id", "role", "content", "name"]), inner),
    max_leaves=8,
) | st.sampled_from([[CALL, RETURNED], [THOUGHT], [WEATHER], "required", ALLOWED, ALLOWED["tools"][0]])


def body(**fields: object) -> bytes:
    return json.dumps({"model": "any", "input": "Hello"} | fields).encode()


def asked(**fields: object) -> Asked:
    return responses_api.parse(body(**fields)).asked


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        responses_api.parse(data)
    assert caught.value.status == 400
    return caught.value


def answered(reply: Reply, **fields: object) -> responses_api.ResponseAnswer:
    return responses_api.answer(responses_api.parse(body(**fields)), reply)


def events_of(answer: responses_api.ResponseAnswer) -> list[dict[str, Any]]:
    events = []
    for event in answer.as_events():
        name, data, *rest = event.decode().split("\n")
        assert rest == ["", ""]
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


# --- the request ---


def test_a_string_is_what_the_user_said_after_the_instructions():
    request = responses_api.parse(body(instructions="Be brief.", stream=True, max_output_tokens=16))
    assert (request.model, request.stream) == ("any", True)
    assert request.asked == Asked(
        messages=[Message("system", "Be brief."), Message("user", "Hello")], token_limit=16, tools=[]
    )


def test_items_are_messages_calls_and_what_the_calls_returned():
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How warm "}] * 2},
        said | {"content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        THOUGHT,
        CALL | {"id": "fc_1", "status": "completed"},
        RETURNED | {"output": [{"type": "input_text", "text": "31 degrees"}]},
    ]
    assert [(message.role, message.text) for message in asked(input=items).messages] == [
        ("developer", "Be brief."),
        ("user", "How warm How warm "),
        ("assistant", "Let me see."),
        ("assistant", "No."),
        ("assistant", 'weather {"city":"Bandung"}'),
        ("tool", "31 degrees"),
    ]


def test_what_the_model_thought_is_passed_over():
    parts = {"summary": [{"type": "summary_text", "text": "It"}], "content": [{"type": "reasoning_text", "text": "is"}]}
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert asked(input=[said[0], THOUGHT | parts | {"status": None}, said[1]]) == asked(input=said)
    assert asked(input=[THOUGHT]).messages == []


@pytest.mark.parametrize(
    ("choice", "use", "chosen"),
    [
        (None, "auto", None),
        ("none", "none", None),
        ("required", "required", None),
        ({"type": "function", "name": "weather"}, "required", ["weather"]),
        (ALLOWED, "auto", ["weather"]),
        (ALLOWED | {"mode": "required"}, "required", ["weather"]),
    ],
)
def test_tools_and_which_of_them_must_be_called(choice, use, chosen):
    now = {"type": "function", "name": "now", "description": "What time it is."}
    found = asked(tools=[WEATHER, now], tool_choice=choice)
    assert found.tools == [Tool("weather", CITY), Tool("now", {}, "What time it is.")]
    assert (found.tool_use, found.callable_tools) == (use, chosen)


def test_the_form_of_the_text():
    form = {"type": "json_schema", "name": "place", "schema": CITY, "strict": True}
    assert asked(text={"format": form}).schema == CITY
    assert asked(input="In JSON.", text={"format": {"type": "json_object"}}).schema == {}
    assert asked(text={"format": {"type": "text"}}).schema is None
    assert asked(text={"verbosity": "low"}).schema is None


def test_fields_that_the_simulator_does_not_read_are_accepted():
    assert asked(store=False, include=["x"], reasoning={"effort": "low"}, stream_options={"include_obfuscation": False})


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": ""}, "model", "length"),
        ({"input": ""}, "input", "length"),
        ({"input": []}, "input", "length"),
        ({"input": 5}, "input", "Expected"),
        ({"input": [{"content": "Hello"}]}, "input[0].role", "needs `role`"),
        ({"input": [{"role": "user"}]}, "input[0].content", "needs `content`"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "are user, assistant, system, developer"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "message, function_call and"),
        ({"input": [{"type": "reasoning", "id": "rs_1"}]}, "input[0].summary", "needs `summary`"),
        (
            {"input": [{"role": "user", "content": [{"type": "reasoning_text", "text": "x"}]}]},
            "input[0]",
            "message has no part of type reasoning_text",
        ),
        (
            {"input": [CALL, RETURNED | {"output": [{"type": "reasoning_text", "text": "x"}]}]},
            "input[1].output[0].type",
            "input_text",
        ),
        ({"input": [CALL | {"call_id": None}]}, "input[0].call_id", "needs `call_id`"),
        ({"input": [CALL, {"type": "function_call_output", "call_id": "call_1"}]}, "input[1].output", "needs"),
        ({"input": [RETURNED]}, "input", "No tool call found for function call output with call_id call_1."),
        ({"input": [CALL]}, "input", "No tool output found for function call call_1."),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id", "'msg_1' not found"),
        ({"input": [{"id": "msg_1"}]}, "input[0].id", "send the item itself"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", "input_text"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "of type function"),
        ({"tools": [WEATHER | {"name": "two words"}]}, "tools[0].name", "regex"),
        (
            {"tools": [WEATHER | {"parameters": nested(MAX_SCHEMA_DEPTH)}]},
            "tools[0].parameters",
            "deep",
        ),
        ({"tools": [WEATHER] * (MAX_TOOLS + 1)}, "tools", "length"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "must be unique"),
        ({"tools": [WEATHER | {"parameters": CITY | {"required": []}}]}, "tools[0].parameters", "'city' is missing"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "strict": True}}},
            "text.format.schema",
            "'x': $: the type of the whole must be 'object'",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "is not simulated"),
        ({"include": ["message.output_text.logprobs"]}, "include", "leave the logprobs out"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort", "Expected"),
        ({"tool_choice": "required"}, "tool_choice", "'tools'"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "tool_choice", "'weather' not found"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "of type function"),
        ({"tool_choice": ALLOWED}, "tool_choice", "'weather' not found"),
        ({"tools": [WEATHER], "tool_choice": ALLOWED | {"tools": []}}, "tool_choice.tools", "length"),
        (
            {"tools": [WEATHER], "tool_choice": ALLOWED | {"tools": [{"type": "mcp"}]}},
            "tool_choice.tools[0].type",
            "of type function",
        ),
        (
            {"instructions": "In JSON.", "text": {"format": {"type": "json_object"}}},
            "input",
            "the word 'json'",
        ),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "missing"),
        ({"max_output_tokens": 15}, "max_output_tokens", ">= 16"),
        ({"temperature": 3}, "temperature", "<= 2"),
        ({"background": True}, "background", "background"),
        ({"conversation": "conv_1"}, "conversation", "keeps nothing"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "keeps nothing"),
    ],
)
def test_a_refusal_names_the_field_and_what_would_do(fields, param, says):
    error = refusal(body(**fields))
    assert (error.type, error.param) == ("invalid_request_error", param)
    assert says in error.message


def test_an_earlier_response_is_not_found():
    error = refusal(body(previous_response_id="resp_1" * 1000))
    assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")
    assert "send the whole conversation" in error.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", body() + b"x", b'{"input": "x"}', b'{"model": "x"}'])
def test_what_is_no_request_is_refused(data):
    refusal(data)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_arrives(first, second):
    items = [{"role": "user", "content": first}, {"role": "assistant", "content": second}]
    assert [message.text for message in asked(input=items).messages] == [first, second]


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_any_value_in_any_field_is_refused_or_answered(fields):
    with contextlib.suppress(ApiError):
        answer = answered(SAID, **fields)
        assert events_of(answer)[-1]["response"] == answer.as_json()


# --- the answer ---


SAID = Reply(text="It is warm — 東京.", prompt_tokens=3, completion_tokens=6)


def test_the_events_of_a_text_are_in_the_apis_order_and_lead_to_the_object():
    answer = answered(SAID)
    events = events_of(answer)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    created, started, item, part, *deltas, text_done, part_done, item_done, completed = events
    assert [event["type"].removeprefix("response.") for event in (created, started, item, part)] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
    ]
    assert [event["type"].removeprefix("response.") for event in (text_done, part_done, item_done, completed)] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert {event["type"] for event in deltas} == {"response.output_text.delta"}
    assert [event["delta"] for event in deltas][:3] == ["It ", "is ", "warm "]
    assert "".join(event["delta"] for event in deltas) == SAID.text
    assert created["response"] | {"status": "completed"} == completed["response"] | {
        "output": [],
        "usage": None,
        "completed_at": None,
    }
    assert completed["response"] == answer.as_json()
    assert completed["response"]["output"] == [item_done["item"]]
    assert item["item"] == item_done["item"] | {"status": "in_progress", "content": []}
    assert (part["part"]["text"], text_done["text"], part_done["part"]["text"]) == ("", SAID.text, SAID.text)
    assert {event["item_id"] for event in (part, *deltas, text_done, part_done)} == {item["item"]["id"]}


def test_a_cut_answer_is_incomplete_and_says_why():
    answer = answered(msgspec.structs.replace(SAID, is_cut=True), max_output_tokens=16)
    *_, item_done, last = events_of(answer)
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (last["response"]["status"], item_done["item"]["status"]) == ("incomplete", "incomplete")


def test_calls_are_items_of_their_own_with_their_arguments_in_pieces():
    calls = (ToolCall("weather", '{"city":"Bandung — 東京"}'), ToolCall("now", "{}"))
    reply = Reply(text="", tool_calls=calls, prompt_tokens=3, completion_tokens=9)
    answer = answered(reply, tools=[WEATHER, {"type": "function", "name": "now"}])
    output = answer.as_json()["output"]
    assert [(item["type"], item["name"], item["arguments"], item["status"]) for item in output] == [
        ("function_call", call.name, call.arguments, "completed") for call in calls
    ]
    assert len({item["call_id"] for item in output}) == 2
    events = events_of(answer)[2:-1]
    for index, call in enumerate(calls):
        added, *deltas, done, item_done = [event for event in events if event["output_index"] == index]
        assert added["item"]["arguments"] == ""
        assert "".join(event["delta"] for event in deltas) == done["arguments"] == call.arguments
        assert item_done["item"] == output[index]


def test_an_answer_without_a_word_is_an_empty_message():
    answer = answered(Reply(text="", prompt_tokens=1, completion_tokens=0))
    assert answer.as_json()["output"][0]["content"][0]["text"] == ""
    assert "response.output_text.delta" not in {event["type"] for event in events_of(answer)}


def test_what_was_asked_for_is_said_again():
    form = {"type": "json_schema", "name": "place", "schema": CITY, "strict": True, "description": None}
    fields = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "max_output_tokens": 99,
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_tool_calls": 3,
        "service_tier": "flex",
        "safety_identifier": "someone",
        "prompt_cache_key": "key",
    }
    found = answered(SAID, tools=[WEATHER], text={"format": form}, **fields).as_json()
    assert {name: found[name] for name in fields} == fields
    assert found["tools"] == [WEATHER | {"description": None}]
    assert found["text"] == {"format": form, "verbosity": "medium"}
    assert found["usage"]["total_tokens"] == 9
    assert answered(SAID, service_tier="auto").as_json()["service_tier"] == "default"
    assert answered(SAID, tools=[WEATHER], tool_choice=ALLOWED).as_json()["tool_choice"] == ALLOWED
