"""Requests to the simulator: what is accepted, and how the error names what is not."""

import json

import pytest

from vastar_runtime.simulator.api_error import MAX_MESSAGE_CHARS, ApiError
from vastar_runtime.simulator.request import MAX_MODEL_CHARS, parse

HELLO = [{"role": "user", "content": "Hello"}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "any", "messages": HELLO} | fields).encode()


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(data)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    return caught.value


def test_fields_that_the_simulator_does_not_read_are_accepted():
    request = parse(body(top_p=0.5, stream_options={"include_usage": True}, tools=[], temperature=0.2, max_tokens=None))
    assert (request.model, request.stream, request.token_limit) == ("any", None, None)


def test_the_newer_name_of_the_token_limit_comes_first():
    assert parse(body(max_tokens=3, max_completion_tokens=5)).token_limit == 5
    assert parse(body(max_tokens=3)).token_limit == 3


def test_content_may_be_a_list_of_text_parts():
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "world"}]
    assert parse(body(messages=[{"role": "user", "content": parts}])).messages[0].text == "Hello, world"


def test_an_assistant_that_made_a_tool_call_needs_no_content():
    history = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "42"}]
    assert [message.text for message in parse(body(messages=history)).messages] == ["", "42"]


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
    assert "not JSON" in refusal(body().replace(b"Hello", half.encode())).message


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
    ],
)
def test_a_wrong_field_is_named(fields, param):
    error = refusal(body(**fields))
    assert error.param == param
    assert param.rpartition(".")[2].partition("[")[0] in error.message


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
