"""Requests to the simulator: what is accepted, and how the error names what is not."""

import json

import pytest

from vastar_runtime.simulator.api_error import MAX_MESSAGE_CHARS, ApiError
from vastar_runtime.simulator.chat_request import parse, parse_for_deployment
from vastar_runtime.simulator.reply import Tool
from vastar_runtime.simulator.request import MAX_MODEL_CHARS

HELLO = [{"role": "user", "content": "Hello"}]

SUM = {"type": "function", "function": {"name": "sum"}}


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, object]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


def assistant(*ids: str) -> dict[str, object]:
    calls = [{"id": id, "type": "function", "function": {"name": "sum", "arguments": '{"a":1}'}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def tool(id: str, content: str = "42") -> dict[str, object]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def body(**fields: object) -> bytes:
    return json.dumps({"model": "any", "messages": HELLO} | fields).encode()


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(data)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    return caught.value


def test_fields_that_the_simulator_does_not_read_are_accepted():
    unread = {
        "seed": 1,
        "store": True,
        "logprobs": False,
        "top_logprobs": 0,
        "tools": [],
        "temperature": 0.2,
        "max_tokens": None,
    }
    more = {"user": "me", "modalities": ["text"], "logit_bias": {"50256": -100}, "parallel_tool_calls": True}
    request = parse(body(**unread, **more, of_a_later_version={"a": 1}))
    assert (request.model, request.stream, request.token_limit) == ("any", None, None)


def test_the_newer_name_of_the_token_limit_comes_first():
    assert parse(body(max_tokens=3, max_completion_tokens=5)).token_limit == 5
    assert parse(body(max_tokens=3)).token_limit == 3


def test_content_may_be_a_list_of_text_parts():
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "world"}]
    assert parse(body(messages=[{"role": "user", "content": parts}])).messages[0].text == "Hello, world"


def test_what_the_model_refused_to_say_is_in_the_history_as_it_came():
    parts = [{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}]
    assert parse(body(messages=[{"role": "assistant", "content": parts}])).messages[0].text == "Well, no."
    error = refusal(body(messages=[{"role": "user", "content": parts}]))
    assert (error.param, "has no part of type refusal" in error.message) == ("messages[0]", True)


def test_an_assistant_that_made_a_tool_call_needs_no_content():
    history = [assistant("one"), tool("one", "42")]
    said = parse(body(messages=history)).asked.messages
    assert [(message.role, message.text) for message in said] == [("assistant", 'sum {"a":1}'), ("tool", "42")]


@pytest.mark.parametrize(
    ("history", "param", "says"),
    [
        ([tool("one")], "messages[0].role", "'one' is in none"),
        ([{"role": "tool", "content": "42"}], "messages[0].tool_call_id", "Missing required parameter"),
        ([assistant("one"), tool("two")], "messages[1].role", "'two' is in none"),
        ([assistant("one"), *HELLO], "messages[1].role", "did not have response messages: one"),
        ([assistant("one", "two"), tool("one")], "messages[2].role", "did not have response messages: two"),
        ([assistant("one"), tool("one"), *HELLO, tool("one")], "messages[3].role", "'one' is in none"),
    ],
)
def test_every_call_is_answered_and_nothing_else_is(history, param, says):
    error = refusal(body(messages=history))
    assert error.param == param
    assert says in error.message


def test_what_is_asked_in_no_api_s_own_form():
    asked = parse(
        body(
            stop="END",
            max_tokens=9,
            tools=[{"type": "function", "function": {"name": "sum", "description": "Adds.", "strict": True}}],
            tool_choice={"type": "function", "function": {"name": "sum"}},
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        )
    ).asked
    assert (asked.stop, asked.token_limit, asked.tools, asked.tool_use, asked.callable_tools, asked.schema) == (
        ["END"],
        9,
        [Tool("sum", {}, "Adds.")],
        "required",
        ["sum"],
        {"type": "object"},
    )
    some = parse(body(tools=[SUM, named("now"), named("then")], tool_choice=allowed("auto", "now", "then"))).asked
    assert (len(some.tools), some.tool_use, some.callable_tools) == (3, "auto", ["now", "then"])
    plain = parse(body(stop=["a", "b"], tool_choice="none", response_format={"type": "text"})).asked
    assert (plain.stop, plain.tools, plain.tool_use, plain.schema) == (["a", "b"], [], "none", None)
    assert plain.callable_tools is None


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed when 'stream' is enabled"),
        ({"stop": ""}, "stop", "empty"),
        ({"stop": list("abcde")}, "stop", "length <= 4"),
        ({"tool_choice": "required"}, "tool_choice", "only allowed when 'tools' are specified"),
        ({"tool_choice": "auto"}, "tool_choice", "only allowed when 'tools' are specified"),
        ({"tools": [SUM], "tool_choice": named("other")}, "tool_choice", "'other' not found"),
        ({"tools": [SUM], "tool_choice": "perhaps"}, "tool_choice", "'perhaps'"),
        ({"tools": [SUM], "tool_choice": named("")}, "tool_choice", "'' not found"),
        ({"tools": [SUM], "tool_choice": {"type": "custom"}}, "tool_choice.type", "function and allowed_tools"),
        ({"tools": [SUM], "tool_choice": allowed("auto", "sum", "other")}, "tool_choice", "'other' not found"),
        ({"tools": [SUM], "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools", "length"),
        ({"tools": [SUM], "tool_choice": allowed("none", "sum")}, "tool_choice.allowed_tools.mode", "'none'"),
        ({"tool_choice": allowed("auto", "sum")}, "tool_choice", "only allowed when 'tools' are specified"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "tools of type function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "matching regex"),
        ({"tools": [SUM] * 129}, "tools", "length <= 128"),
        ({"tools": [SUM, SUM]}, "tools", "must be unique"),
        ({"logprobs": True}, "logprobs", "is not simulated"),
        ({"top_logprobs": 1}, "top_logprobs", "is not simulated"),
        ({"functions": [{"name": "sum"}]}, "functions", "send tools"),
        ({"function_call": "auto"}, "function_call", "send tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities", "answers with text"),
        ({"audio": {"voice": "alloy"}}, "audio", "answers with text"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}]},
            "tools[0].function.parameters",
            "'f': $: the type of the whole must be 'object'",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}},
                }
            },
            "response_format",
            "'x': $: 'additionalProperties' is required",
        ),
        ({"response_format": {"type": "json_object"}}, "messages", "the word 'json'"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "text, json_object and json_schema"),
        ({"n": 9}, "n", "<= 8"),
        ({"n": 0}, "n", ">= 1"),
        ({"top_p": 1.5}, "top_p", "<= 1"),
        ({"presence_penalty": 3}, "presence_penalty", "<= 2"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "reads parts of type text",
        ),
    ],
)
def test_what_cannot_be_asked_is_named_and_explained(fields, param, says):
    error = refusal(body(**fields))
    assert error.param == param
    assert says in error.message


def test_a_deployment_stands_for_the_model():
    without = json.dumps({"messages": HELLO}).encode()
    assert parse_for_deployment(without, "mine").model == "mine"
    assert parse_for_deployment(body(), "mine").model == "any"
    assert parse_for_deployment(without, "mine").asked == parse(body()).asked


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"model=any", b"\xff\xfe", body()[:-1], body() + b"x", body().replace(b"Hello", b"\xff")],
)
def test_what_is_not_json_is_said_to_be_so(data):
    assert refusal(data).message.startswith("The body is not JSON: ")


def test_nesting_without_end_is_refused():
    depth = 100_000
    nested = b"[" * depth + b"]" * depth
    assert refusal(body()[:-1] + b', "x": ' + nested + b"}").message == "The body is JSON nested too deeply."


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00"])
def test_half_a_surrogate_pair_is_no_text(half):
    """The decoder's own word for the first half close to the end is that the body is truncated."""
    ends = [b'{"model": "' + half.encode() + b" " * rest + b'"}' for rest in range(8)]
    for data in (body().replace(b"Hello", half.encode()), *ends):
        message = refusal(data).message
        assert "not JSON" in message
        assert "surrogate pair" in message
    assert "surrogate" not in refusal(b'{"model": "\\ud83d\\ude00').message


@pytest.mark.parametrize("data", [b"[]", b'"text"', b"1", b"null"])
def test_a_body_that_is_no_object_is_refused(data):
    error = refusal(data)
    assert error.message.startswith("Invalid request body: Expected `object`")
    assert error.param is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [*HELLO, {"content": "Hello"}]}, "messages[1].role"),
        ({"messages": [{"role": "wizard", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * (MAX_MODEL_CHARS + 1)}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"seed": "one"}, "seed"),
        ({"logit_bias": {"50256": "low"}}, "logit_bias[...]"),
        ({"logit_bias": {"50256": 101}}, "logit_bias[...]"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_a_wrong_field_is_named(fields, param):
    error = refusal(body(**fields))
    assert error.param == param
    assert param.rpartition(".")[2].partition("[")[0] in error.message


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": []}, "empty_array"),
        ({"messages": "Hello"}, "invalid_type"),
        ({"messages": [{"role": "wizard", "content": "Hello"}]}, "invalid_value"),
        ({"messages": [{"content": "Hello"}]}, "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter"),
        ({"tools": [{"type": "web_search"}]}, "invalid_value"),
        ({"temperature": 3}, None),
    ],
)
def test_an_error_has_the_api_s_code_where_that_is_known(fields, code):
    assert refusal(body(**fields)).code == code


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(field):
    fields = json.loads(body())
    del fields[field]
    error = refusal(json.dumps(fields).encode())
    assert error.param == field
    assert error.message == f"Invalid request body: Object missing required field `{field}` at {field!r}."


def test_a_bad_role_is_answered_with_the_good_ones():
    error = refusal(body(messages=[{"role": "wizard", "content": "Hello"}]))
    assert "'wizard'" in error.message
    assert "the roles are developer, system, user, assistant, tool, function" in error.message


def test_an_error_does_not_send_a_long_value_back():
    error = refusal(body(messages=[{"role": "w" * 100_000, "content": "Hello"}]))
    assert len(error.message) == MAX_MESSAGE_CHARS
