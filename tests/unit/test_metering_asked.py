"""What a request asks of a language model: every API, what is none, and members that are not as they should be."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metered_answers import read_asked
from msgspec.structs import replace

from vastar_runtime.metering.asked import (
    MAX_LOOKED_AT,
    MAX_MODEL_CHARACTERS,
    MAX_PROMPTS,
    MAX_TOKENS,
    REQUEST_TOKENS,
    Asked,
    begin_reading,
)
from vastar_runtime.metering.estimate import IMAGE_TOKENS, estimated_tokens

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Why use a connector?"}]
MIB = 1024 * 1024


def text_of(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def asked(path: str, **members: Any) -> Asked:
    found = read_asked("POST", path, text_of(members))
    assert found is not None
    return found


def tokens_of(*values: Any) -> int:
    """Of the prompt alone; what stands around it in the body makes a small difference."""
    return sum(estimated_tokens(text_of(value)) for value in values) + REQUEST_TOKENS


def is_about(found: Asked, expected: Asked) -> bool:
    tokens = expected.prompt_tokens
    return (
        found == replace(expected, prompt_tokens=found.prompt_tokens)
        and tokens - 1 <= found.prompt_tokens <= tokens + 8
    )


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("path", "members", "texts", "limit", "completions"),
    [
        (CHAT, {"messages": MESSAGES}, [MESSAGES], None, 1),
        (CHAT, {"messages": MESSAGES, "max_tokens": 100, "stream": True}, [MESSAGES], 100, 1),
        (CHAT, {"messages": MESSAGES, "max_completion_tokens": 100, "n": 3}, [MESSAGES], 300, 3),
        (CHAT, {"messages": MESSAGES, "n": 3}, [MESSAGES], None, 3),
        (CHAT, {"messages": MESSAGES, "max_completion_tokens": 100, "max_tokens": 7}, [MESSAGES], 100, 1),
        (CHAT, {"messages": MESSAGES, "tools": TOOLS, "functions": [{}]}, [MESSAGES, TOOLS, [{}]], None, 1),
        (CHAT, {"messages": None}, [], None, 1),
        ("/v1/completions", {"prompt": "Once", "max_tokens": 16, "n": 2, "best_of": 5}, ["Once"], 80, 5),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "max_tokens": 16}, [["a", "b", "c"]], 48, 3),
        ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 16}, [[[1, 2], [3]]], 32, 2),
        ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 16}, [[1, 2, 3]], 16, 1),
        ("/v1/completions", {"prompt": ['a","b', ","], "max_tokens": 16}, [['a","b', ","]], 32, 2),
        ("/v1/embeddings", {"input": ["one", "two"], "encoding_format": "base64"}, [["one", "two"]], 0, 1),
        ("/v1/responses", {"input": "Hello", "instructions": "Be brief."}, ["Hello", "Be brief."], None, 1),
        ("/v1/responses", {"input": MESSAGES, "max_output_tokens": 50, "tools": TOOLS}, [MESSAGES, TOOLS], 50, 1),
        ("/v1/messages", {"messages": MESSAGES, "system": "Be brief.", "max_tokens": 9}, [MESSAGES, "Be brief."], 9, 1),
        ("/v1/messages?beta=true", {"messages": MESSAGES, "max_tokens": 0}, [MESSAGES], None, 1),
        ("/any/path/of/a/proxy", {"messages": MESSAGES, "max_tokens": 9}, [MESSAGES], 9, 1),
        ("/v1/embeddings/?x", {"input": "one", "max_tokens": 9}, ["one"], 0, 1),
        ("/v1/rerank", {"query": "one", "documents": ["two"]}, ["one", ["two"]], 0, 1),
    ],
)
def test_every_api(path: str, members: dict[str, Any], texts: list[Any], limit: int | None, completions: int) -> None:
    expected = Asked("gpt-4o", tokens_of(*texts), limit, completions)
    found = asked(path, model="gpt-4o", **members)
    assert is_about(found, expected)
    unknown = {"model": ["x"], "messages": "y"}
    assert is_about(
        asked(path, **members, unknown=unknown, model="gpt-4o"),
        replace(expected, prompt_tokens=tokens_of(*texts, {"unknown": unknown}) - 2),
    )
    spaced = b" \r\n\t" + json.dumps({"model": "gpt-4o", **members}, indent=1).encode() + b"\n"
    indented = read_asked("POST", path, spaced)
    assert indented is not None
    assert indented == replace(expected, prompt_tokens=indented.prompt_tokens)
    assert indented.prompt_tokens >= found.prompt_tokens
    for method in ("PUT", "PATCH"):
        assert read_asked(method, path, text_of({"model": "gpt-4o", **members})) == found


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", CHAT, text_of({"model": "m", "messages": MESSAGES})),
        ("DELETE", CHAT, text_of({"model": "m", "messages": MESSAGES})),
        ("POST", CHAT, b""),
        ("POST", "/api/chat", b"  "),
        ("POST", "/api/chat", text_of([{"model": "m", "messages": MESSAGES}])),
        ("POST", "/api/chat", b"model=m&messages=x"),
        ("POST", "/api/chat", text_of({"messages": MESSAGES})),
        ("POST", "/api/chat", text_of({"messages": MESSAGES, "metadata": {"model": "m"}})),
        ("POST", "/api/chat", text_of({"messages": [{"content": '"model"'}]})),
        ("POST", "/api/chat", text_of({"model": "", "messages": MESSAGES})),
        ("POST", "/api/chat", text_of({"model": " ", "messages": MESSAGES})),
        ("POST", "/api/chat", text_of({"model": None, "messages": MESSAGES})),
        ("POST", "/api/chat", text_of({"model": 7, "messages": MESSAGES})),
        ("POST", "/api/chat", text_of({"model": ["m"], "messages": MESSAGES})),
        ("POST", "/cars", text_of({"model": "of a car", "colour": "red"})),
        ("POST", "/cars", text_of({"model": "of a car", "photos": ["x" * 1000] * 2000})),
        ("POST", "/cars", text_of({"name": "of a car", "photos": ["x" * 1000] * 2000})),
        ("POST", "/cars", text_of({"model": "of a car", "colour": "red"})[:-1]),
        ("POST", "/$batch", text_of({"requests": [{"id": "1", "method": "GET", "url": "/me"}] * 3})),
        ("POST", "/$batch", text_of({"requests": [{"params": "model"}]})),
        ("POST", "/v1/messages/count_tokens?beta=true", text_of({"model": "m", "messages": MESSAGES})),
        ("POST", "/v1/responses/input_tokens", text_of({"model": "m", "input": "Hello"})),
        ("POST", "/v1/messages/count_tokens", b"{"),
    ],
)
def test_what_is_no_such_request(method: str, path: str, body: bytes) -> None:
    assert read_asked(method, path, body) is None


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_where_only_models_are_asked_a_name_is_enough(path: str) -> None:
    assert is_about(asked(path, model="m"), Asked("m", REQUEST_TOKENS, None))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", "my-gpt"),
        ("/behind/a/proxy/openai/deployments/my-gpt/chat/completions", "my-gpt"),
        ("/openai/deployments/my%20gpt%0a/chat/completions", "my gpt"),
        ("/openai/deployments/my%0agpt", "my?gpt"),
        ("/openai/deployments/" + "d" * 999 + "/embeddings", "d" * MAX_MODEL_CHARACTERS),
    ],
)
def test_azures_model_is_its_deployment_whatever_the_body_says(path: str, model: str) -> None:
    assert asked(path, messages=MESSAGES).model == model
    assert asked(path, model="of no effect", messages=MESSAGES).model == model
    assert asked(path, model=7).model == model


def test_azures_embeddings_have_no_completion() -> None:
    found = asked("/openai/deployments/ada/embeddings?api-version=2024-10-21", input="Hello")
    assert is_about(found, Asked("ada", tokens_of("Hello"), 0))


@pytest.mark.parametrize("value", [None, "many", "", "-1", 0, 0.0, "0", -1, -(10**30), True, [100], {}, "\ud83d"])
@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_limit_that_is_none_is_as_good_as_not_given(member: str, value: Any) -> None:
    found = asked(CHAT, model="m", messages=MESSAGES, **{member: value})
    assert is_about(found, Asked("m", tokens_of(MESSAGES), None))
    others = {"max_tokens": 20, "max_completion_tokens": 20, "max_output_tokens": 20, member: value}
    assert asked(CHAT, model="m", messages=MESSAGES, **others).max_completion_tokens == 20


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("8000", 8000),
        ("8000.0", 8000),
        ("8e3", 8000),
        ("7999.1", 8000),
        ('"8000"', 8000),
        ('" 8000 "', 8000),
        ('"\\u0038000"', 8000),
        ('"8000.0"', 8000),
        (str(MAX_TOKENS + 1), MAX_TOKENS),
        ("2000000000", MAX_TOKENS),
        ("9" * 5000, MAX_TOKENS),
        ("0." + "9" * 5000, MAX_TOKENS),
        ("1e999", MAX_TOKENS),
        ('"inf"', MAX_TOKENS),
        ('"nan"', None),
    ],
)
@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens", "max_output_tokens", "Max_Tokens"])
def test_a_limit_counts_in_any_form_that_a_server_may_take(member: str, text: str, limit: int | None) -> None:
    found = read_asked("POST", CHAT, f'{{"model":"m","{member}":{text},"messages":[]}}'.encode())
    assert found is not None
    assert found.max_completion_tokens == limit


@pytest.mark.parametrize(
    "limits",
    [
        {"max_tokens": 8000, "max_completion_tokens": 0, "max_output_tokens": -1},
        {"max_tokens": 1, "max_completion_tokens": 8000.0, "max_output_tokens": "7"},
        {"max_tokens": 1, "Max_Tokens": 8000},
        {"MAX_TOKENS": 1, "max_tokens": 8000},
        {"max_output_tokens": [9000], "max_tokens": "8000"},
    ],
)
def test_where_limits_disagree_the_largest_holds(limits: dict[str, Any]) -> None:
    assert asked(CHAT, model="m", messages=MESSAGES, **limits).max_completion_tokens == 8000


@pytest.mark.parametrize("value", [None, 0, -2, True, "many"])
@pytest.mark.parametrize("member", ["n", "best_of"])
def test_a_number_of_choices_that_is_none_is_one(member: str, value: Any) -> None:
    found = asked(CHAT, model="m", messages=MESSAGES, max_tokens=10, **{member: value})
    assert (found.max_completion_tokens, found.completions) == (10, 1)


@pytest.mark.parametrize("value", [5, 5.0, "5", 4.5])
@pytest.mark.parametrize("member", ["n", "best_of", "N"])
def test_a_number_of_choices_counts_in_any_form(member: str, value: Any) -> None:
    found = asked(CHAT, model="m", messages=MESSAGES, max_tokens=10, **{member: value})
    assert (found.max_completion_tokens, found.completions) == (50, 5)


def test_a_limit_times_the_choices_is_capped() -> None:
    for limits in ({"max_tokens": MAX_TOKENS}, {"max_tokens": MAX_TOKENS, "n": 2}, {"max_tokens": 2, "n": MAX_TOKENS}):
        assert asked(CHAT, model="m", **limits).max_completion_tokens == MAX_TOKENS


@pytest.mark.parametrize("quotes", [1_000, 500_000])
def test_prompts_are_counted_where_there_are_few_quotes_and_else_taken_for_the_most(quotes: int) -> None:
    found = asked("/v1/completions", model="m", prompt=["'" * 9, '"' * quotes], max_tokens=1)
    assert found.max_completion_tokens == (2 if quotes < MAX_LOOKED_AT else MAX_PROMPTS)


EVERY_PROMPT = ["messages", "prompt", "input", "system", "instructions", "tools", "functions", "documents", "suffix"]
EVERY_PROMPT += ["response_format", "tool_choice", "chat_template", "guided_json", "whatever"]


@pytest.mark.parametrize("value", [7, "a text", "a text of many words " * 50, {"a": "b"}, True, ["x"]])
@pytest.mark.parametrize("member", EVERY_PROMPT)
def test_a_prompt_of_any_name_and_type_is_counted(member: str, value: Any) -> None:
    assert is_about(asked(CHAT, model="m", **{member: value}), Asked("m", tokens_of(value), None))


@pytest.mark.parametrize("member", ["model", "user", "seed", "stream"])
def test_a_setting_that_is_long_may_be_a_prompt(member: str) -> None:
    assert asked(CHAT, **{member: "word " * 1000}).prompt_tokens >= 5000 / 3


def test_what_an_ordinary_request_sets_hardly_adds_to_its_prompt() -> None:
    messages = [{"role": "user", "content": "Why use a connector? " * 60}]
    settings = {"temperature": 0.7, "top_p": 1, "max_tokens": 200, "stream": True, "user": "u-1", "seed": 1}
    found = asked(CHAT, model="gpt-4o", messages=messages, **settings)
    assert tokens_of(messages) <= found.prompt_tokens <= 1.05 * tokens_of(messages)


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("gpt-4o", "gpt-4o"),
        (" gpt-4o\n", "gpt-4o"),
        ("m" * 10_000, "m" * MAX_MODEL_CHARACTERS),
        ("a\x1b[31mb\u202ec\u2028", "a?[31mb?c"),
        ("Modèle-大", "Modèle-大"),
    ],
)
def test_a_models_name_is_made_fit_to_print(model: str, shown: str) -> None:
    assert asked(CHAT, model=model, messages=MESSAGES).model == shown


def test_a_text_that_was_cut_in_an_emoji_is_read() -> None:
    body = b'{"model":"m","messages":[{"content":"a \\ud83d"}],"max_tokens":7,"x":"\\uDc00 \\\\ud800"}'
    found = read_asked("POST", CHAT, body)
    assert found is not None
    assert (found.model, found.max_completion_tokens) == ("m", 7)
    assert read_asked("POST", CHAT, b'{"model":"m\\ud83d","messages":[]}') == Asked("m?", 4, None)


def test_images_count_as_such() -> None:
    url = "data:image/png;base64," + "iVBORw0KGgo" * 100_000
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    source = {"type": "base64", "media_type": "image/jpeg", "data": "iVBORw0KGgo" * 100_000}
    for parts in (content, [{"type": "image", "source": source}] * 3):
        found = asked(CHAT, model="m", messages=[{"role": "user", "content": parts}])
        images = 1 if parts is content else 3
        assert IMAGE_TOKENS * images < found.prompt_tokens < IMAGE_TOKENS * images + 120


@given(st.binary(max_size=40), st.text(max_size=20))
def test_nothing_raises(garbage: bytes, path: str) -> None:
    for prefix in (b"", b'{"model":', b'{"model":"m","messages":', b'{"messages":"', b'{"max_tokens":'):
        for suffix in (b"", b"}", b',"model":"m"}'):
            read_asked("POST", path, prefix + garbage + suffix)
            read_asked("POST", "/openai/deployments/" + path, prefix + garbage + suffix)


@pytest.mark.parametrize(
    "unit", [b'{"role":"user","content":"hello"},', b'"model":', b'["', b"\\", b" ", b'{"model":"m"},', b"7,"]
)
def test_no_body_takes_long(unit: bytes) -> None:
    many = unit * (8 * MIB // len(unit))
    for body in (b'{"model":"m","messages":[' + many + b"1]}", many, b"{" + many):
        begun_s = time.process_time()
        read_asked("POST", CHAT, body)
        assert time.process_time() - begun_s < 1  # it takes 30 ms; what is not linear would take many seconds


@given(st.one_of(st.binary(min_size=1, max_size=40), st.from_regex(rb"\{(\"[a-z]{1,8}\":\[?\"x\"\]?)?[,}]{0,2}")))
def test_on_a_path_of_an_api_every_body_asks_for_something_whenever_it_is_read(body: bytes) -> None:
    begun = begin_reading("POST", "/v1/chat/completions", body)

    assert begun is not None
    assert begun.asked is begun.asked
    assert begun.asked == read_asked("POST", "/v1/chat/completions", body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/chat/completions", b"{}"),
        ("POST", "/v1/chat/completions", b""),
        ("POST", "/v1/messages/count_tokens", b"{}"),
        ("POST", "/orders", b'{"model": "T"}'),
    ],
)
def test_what_asks_no_language_model_is_told_at_once(method: str, path: str, body: bytes) -> None:
    assert begin_reading(method, path, body) is read_asked(method, path, body) is None
