"""``POST /v1/messages``: what is read of a request, how a refusal names the field, and the order of the events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.simulator import messages
from vastar_runtime.simulator.api_error import ApiError
from vastar_runtime.simulator.messages_request import MessagesRequest
from vastar_runtime.simulator.reply import MAX_STOPS, MAX_TOOLS, Asked, Reply, Tool, ToolCall
from vastar_runtime.simulator.request import Message

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "How warm it is.", "input_schema": CITY}
HELLO = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bandung"}}
THOUGHTS = [
    {"type": "thinking", "thinking": "It is warm there.", "signature": "xyz"},
    {"type": "redacted_thinking", "data": "xyz"},
]
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "31 degrees"}

FIELDS = [field.name for field in msgspec.structs.fields(MessagesRequest)]
BLOCKS = st.lists(
    st.sampled_from([CALL, RESULT, *THOUGHTS, {"type": "text", "text": "Hello"}, {"type": "image"}, {}, 5])
)
ROLES = st.sampled_from(["user", "assistant", "system"])
TURNS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": BLOCKS | st.text()}))
ANYTHING = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    st.lists(st.text() | st.just(WEATHER)),
    st.dictionaries(st.sampled_from(["type", "name", "format"]), st.sampled_from(["any", "tool", "weather", 5, {}])),
    TURNS,
)


def body(**fields: object) -> bytes:
    return json.dumps({"model": "any", "max_tokens": 100, "messages": [HELLO]} | fields).encode()


def asked(**fields: object) -> Asked:
    return messages.parse(body(**fields)).asked


def turns(*contents: object) -> list[dict[str, object]]:
    """Messages whose roles alternate, the user's first."""
    return [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        messages.parse(data)
    assert caught.value.status == 400
    return caught.value


def answered(reply: Reply) -> messages.MessageAnswer:
    return messages.answer(messages.parse(body()), reply)


def events_of(answer: messages.MessageAnswer) -> list[dict[str, Any]]:
    events = []
    for event in answer.as_events():
        name, data, *rest = event.decode().split("\n")
        assert rest == ["", ""]
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


# --- the request ---


def test_the_system_prompt_comes_first_and_the_limits_are_passed_on():
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief.", "cache_control": None}]
    found = asked(system=parts, stop_sequences=["\n\n"], metadata={"user_id": "u"}, top_k=5)
    assert found == Asked(
        messages=[Message("system", "Be brief."), Message("user", "Hello")], token_limit=100, stop=["\n\n"], tools=[]
    )


def test_a_tools_result_is_a_message_of_its_own():
    conversation = turns(
        [{"type": "text", "text": "How warm is it?"}],
        [{"type": "text", "text": "Let me see. "}, CALL],
        [RESULT | {"content": [{"type": "text", "text": "31 degrees"}]}, {"type": "text", "text": "And now?"}],
    )
    assert [(message.role, message.text) for message in asked(messages=conversation).messages] == [
        ("user", "How warm is it?"),
        ("assistant", 'Let me see. weather {"city": "Bandung"}'),
        ("tool", "31 degrees"),
        ("user", "And now?"),
    ]
    nothing = asked(messages=turns("Go", [CALL], [{"type": "tool_result", "tool_use_id": "toolu_1"}]))
    assert [(message.role, message.text) for message in nothing.messages][2:] == [("tool", "")]


def test_what_the_model_thought_is_passed_over():
    conversation = turns("How warm is it?", [{"type": "text", "text": "Let me see. "}, CALL], [RESULT])
    thoughtful = turns("How warm is it?", [*THOUGHTS, *conversation[1]["content"]], [RESULT])
    assert asked(messages=thoughtful) == asked(messages=conversation)
    assert asked(messages=turns("Hello", THOUGHTS)).messages == [Message("user", "Hello"), Message("assistant", "")]


def test_instructions_may_come_in_the_middle():
    brief = {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]}
    found = asked(messages=[HELLO, {"role": "assistant", "content": "Hi"}, brief, HELLO, brief | {"content": "Go on."}])
    assert [(message.role, message.text) for message in found.messages] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("system", "Be brief."),
        ("user", "Hello"),
        ("system", "Go on."),
    ]


def test_roles_need_not_alternate_and_the_assistant_may_have_begun_its_answer():
    assert len(asked(messages=[HELLO, HELLO, {"role": "assistant", "content": "It is"}]).messages) == 3
    assert asked(messages=[HELLO, {"role": "assistant", "content": ""}]).messages[1].text == ""


@pytest.mark.parametrize(
    ("choice", "use", "chosen"),
    [
        (None, "auto", None),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", None),
        ({"type": "any"}, "required", None),
        ({"type": "tool", "name": "weather"}, "required", ["weather"]),
        ({"type": "none"}, "none", None),
    ],
)
def test_tools_and_which_of_them_must_be_called(choice, use, chosen):
    found = asked(tools=[WEATHER, {"type": "custom", "name": "now", "input_schema": {}}], tool_choice=choice)
    assert found.tools == [Tool("weather", CITY, "How warm it is."), Tool("now", {})]
    assert (found.tool_use, found.callable_tools) == (use, chosen)


def test_the_form_of_the_text():
    assert asked(output_config={"format": {"type": "json_schema", "schema": CITY}}).schema == CITY
    assert asked(output_config={"effort": "low"}).schema is None
    assert asked(output_format={"type": "json_schema", "schema": CITY}).schema == CITY


def test_a_request_for_a_count_needs_no_limit():
    data = json.dumps({"model": "any", "messages": [HELLO], "system": "Be brief."}).encode()
    assert [message.text for message in messages.parse_count(data).asked.messages] == ["Be brief.", "Hello"]
    assert refusal(data).param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": ""}, "model", "length"),
        ({"messages": []}, "messages", "length"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "are user, assistant, system"),
        ({"messages": [{"role": "system", "content": "x"}, HELLO]}, "messages[0].role", "top-level 'system' parameter"),
        ({"messages": [HELLO, {"role": "system", "content": ""}]}, "messages[1].content", "non-empty"),
        ({"messages": [HELLO, {"role": "system", "content": [THOUGHTS[0]]}]}, "messages[1].content", "the assistant's"),
        ({"messages": turns([THOUGHTS[1]])}, "messages[0].content", "the assistant's"),
        ({"messages": turns("Go", [{"type": "thinking"}])}, "messages[1].content[0].thinking", "missing"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "content"),
        ({"messages": turns("")}, "messages[0].content", "messages.0: all messages must have non-empty content"),
        ({"messages": turns("Hello", [], "Hello")}, "messages[1].content", "non-empty"),
        ({"messages": turns([{"type": "text", "text": ""}])}, "messages[0].content[0].text", "length"),
        ({"messages": turns([{"type": "image"}])}, "messages[0].content[0].type", "text, tool_use and tool_result"),
        ({"messages": turns([{"type": "document"}])}, "messages[0].content[0].type", "'document'"),
        (
            {"messages": turns("Go", [CALL], [RESULT | {"content": [{"type": "image"}]}])},
            "messages[2].content[0].content[0].type",
            "in a tool_result the simulator reads text",
        ),
        ({"messages": turns("Go", [CALL | {"input": "x"}])}, "messages[1].content[0]", "`input`"),
        ({"messages": turns("Go", [CALL])}, "messages[1].content", "found without `tool_result` blocks"),
        ({"messages": turns("Go", [CALL], "Well?")}, "messages[1].content", "immediately after: toolu_1"),
        ({"messages": turns([RESULT])}, "messages[0].content", "unexpected `tool_use_id`"),
        ({"messages": turns([CALL])}, "messages[0].content", "the assistant's"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "unique"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type", "of type custom"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema", "input_schema"),
        ({"tools": [WEATHER | {"name": "two words"}]}, "tools[0].name", "regex"),
        ({"tools": [WEATHER] * (MAX_TOOLS + 1)}, "tools", "length"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "while providing tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name", "needs `name`"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "'x' not found"),
        ({"tools": [WEATHER], "tool_choice": {"type": "required"}}, "tool_choice.type", "auto, any, tool and none"),
        ({"stop_sequences": [""]}, "stop_sequences[0]", "length"),
        ({"stop_sequences": ["x"] * (MAX_STOPS + 1)}, "stop_sequences", "length"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"temperature": 1.5}, "temperature", "<= 1"),
        ({"output_format": {"type": "xml", "schema": {}}}, "output_format.type", "json_schema"),
        ({"thread": {"type": "create"}}, "thread", "keeps no threads"),
    ],
)
def test_a_refusal_names_the_field_and_what_would_do(fields, param, says):
    error = refusal(body(**fields))
    assert error.param == param
    assert says in error.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", body() + b"x", b'{"model": "x", "max_tokens": 5}'])
def test_what_is_no_request_is_refused(data):
    refusal(data)


def test_what_a_tool_was_called_with_may_be_nested_as_deeply_as_a_body():
    deep = b'{"a":' * 600 + b"{}" + b"}" * 600
    data = body(messages=turns("Go", [CALL | {"input": {"x": "HERE"}}], [RESULT])).replace(b'{"x": "HERE"}', deep)
    assert messages.parse(data).asked.messages[1].text == f"weather {deep.decode()}"


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_any_value_in_any_field_is_refused_or_asked(fields):
    with contextlib.suppress(ApiError):
        assert all(isinstance(message.text, str) for message in asked(**fields).messages)


# --- the answer ---


def test_the_events_of_a_text_are_in_the_apis_order_and_lead_to_the_message():
    answer = answered(Reply(text="It is warm — 東京.", prompt_tokens=3, completion_tokens=6))
    start, ping, block_start, *deltas, block_stop, message_delta, stop = events_of(answer)
    message = answer.as_json()
    begun = {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
    assert start == {"type": "message_start", "message": message | begun}
    assert ping == {"type": "ping"}
    assert block_start["content_block"] == {"type": "text", "text": ""}
    assert {event["delta"]["type"] for event in deltas} == {"text_delta"}
    assert [event["delta"]["text"] for event in deltas][:3] == ["It ", "is ", "warm "]
    assert (block_stop, stop) == ({"type": "content_block_stop", "index": 0}, {"type": "message_stop"})
    assert message_delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert message_delta["usage"] == {"output_tokens": 6}
    assert message["content"] == [{"type": "text", "text": "".join(event["delta"]["text"] for event in deltas)}]


def test_calls_are_blocks_with_their_input_in_pieces():
    calls = (ToolCall("weather", '{"city":"Bandung — 東京"}'), ToolCall("now", "{}"))
    answer = answered(Reply(text="", tool_calls=calls, prompt_tokens=3, completion_tokens=9))
    message = answer.as_json()
    assert message["stop_reason"] == "tool_use"
    assert [(block["type"], block["name"], block["input"]) for block in message["content"]] == [
        ("tool_use", "weather", {"city": "Bandung — 東京"}),
        ("tool_use", "now", {}),
    ]
    events = events_of(answer)[2:-2]
    for index, call in enumerate(calls):
        start, *deltas, stop = [event for event in events if event["index"] == index]
        assert start["content_block"] == message["content"][index] | {"input": {}}
        assert "".join(event["delta"]["partial_json"] for event in deltas) == call.arguments
        assert stop["type"] == "content_block_stop"


@pytest.mark.parametrize(
    ("reply", "reason", "sequence"),
    [
        (Reply(text="It", is_cut=True, prompt_tokens=1, completion_tokens=1), "max_tokens", None),
        (Reply(text="It", stopped_at="is", prompt_tokens=1, completion_tokens=1), "stop_sequence", "is"),
        (Reply(text="", stopped_at="It", prompt_tokens=1, completion_tokens=0), "stop_sequence", "It"),
    ],
)
def test_why_it_stopped(reply, reason, sequence):
    answer = answered(reply)
    message = answer.as_json()
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert events_of(answer)[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert len(message["content"]) == (1 if reply.text else 0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_a_type_by_their_status_and_the_id_of_the_request(status, kind):
    response = messages.error_response(ApiError(status, "Why."), {"retry-after": "2"})
    id = response.headers["request-id"]
    assert id.startswith("req_")
    assert json.loads(response.body) == {
        "type": "error",
        "error": {"type": kind, "message": "Why."},
        "request_id": id,
    }
    assert (response.status_code, response.headers["retry-after"]) == (status, "2")
    given = messages.error_response(ApiError(status, "Why."), {"request-id": "req_1"})
    assert json.loads(given.body)["request_id"] == given.headers["request-id"] == "req_1"


def test_of_a_thread_the_error_says_that_there_are_none_to_the_program_too():
    """The package then sends the whole conversation instead."""
    error = json.loads(messages.error_response(refusal(body(thread={"type": "create"}))).body)["error"]
    assert error["details"] == {"error_code": "thread_unsupported_request"}
    assert "details" not in json.loads(messages.error_response(refusal(body(max_tokens=0))).body)["error"]


def test_the_version_of_the_api_must_be_said():
    messages.check_version({"anthropic-version": "2023-06-01"})
    with pytest.raises(ApiError, match="anthropic-version: header is required") as caught:
        messages.check_version({})
    assert caught.value.status == 400
