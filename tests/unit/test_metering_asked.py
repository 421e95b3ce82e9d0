"""What a request asks of a language model: every API, what is none, and members that are not as they should be."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.metering.asked import MAX_MODEL_CHARACTERS, MAX_TOKENS, REQUEST_TOKENS, Asked, read_asked
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
    return sum(estimated_tokens(text_of(value)) for value in values) + REQUEST_TOKENS


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("path", "members", "texts", "limit"),
    [
        (CHAT, {"messages": MESSAGES}, [MESSAGES], None),
        (CHAT, {"messages": MESSAGES, "max_tokens": 100, "stream": True}, [MESSAGES], 100),
        (CHAT, {"messages": MESSAGES, "max_completion_tokens": 100, "n": 3}, [MESSAGES], 300),
        (CHAT, {"messages": MESSAGES, "max_completion_tokens": 100, "max_tokens": 7}, [MESSAGES], 100),
        (CHAT, {"messages": MESSAGES, "tools": TOOLS, "functions": [{}]}, [MESSAGES, TOOLS, [{}]], None),
        (CHAT, {"messages": None, "tools": None}, [], None),
        ("/v1/completions", {"prompt": "Once", "max_tokens": 16, "n": 2, "best_of": 5}, ["Once"], 80),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "max_tokens": 16}, [["a", "b", "c"]], 48),
        ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 16}, [[[1, 2], [3]]], 32),
        ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 16}, [[1, 2, 3]], 16),
        ("/v1/completions", {"prompt": ['a","b', ","], "max_tokens": 16}, [['a","b', ","]], 32),
        ("/v1/embeddings", {"input": ["one", "two"], "encoding_format": "base64"}, [["one", "two"]], 0),
        ("/v1/responses", {"input": "Hello", "instructions": "Be brief."}, ["Hello", "Be brief."], None),
        ("/v1/responses", {"input": MESSAGES, "max_output_tokens": 50, "tools": TOOLS}, [MESSAGES, TOOLS], 50),
        ("/v1/messages", {"messages": MESSAGES, "system": "Be brief.", "max_tokens": 9}, [MESSAGES, "Be brief."], 9),
        ("/v1/messages?beta=true", {"messages": MESSAGES, "max_tokens": 0}, [MESSAGES], 0),
        ("/any/path/of/a/proxy", {"messages": MESSAGES, "max_tokens": 9}, [MESSAGES], 9),
        ("/v1/embeddings/?x", {"input": "one", "max_tokens": 9}, ["one"], 0),
    ],
)
def test_every_api(path: str, members: dict[str, Any], texts: list[Any], limit: int | None) -> None:
    expected = Asked("gpt-4o", tokens_of(*texts), limit)
    assert asked(path, model="gpt-4o", **members) == expected
    assert asked(path, **members, unknown={"model": ["x"], "messages": "y"}, model="gpt-4o") == expected
    spaced = b" \r\n\t" + json.dumps({"model": "gpt-4o", **members}, indent=1).encode() + b"\n"
    found = read_asked("POST", path, spaced)
    assert found is not None
    assert (found.model, found.max_completion_tokens) == ("gpt-4o", limit)
    assert found.prompt_tokens >= expected.prompt_tokens


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", CHAT, text_of({"model": "m", "messages": MESSAGES})),
        ("post", CHAT, text_of({"model": "m", "messages": MESSAGES})),
        ("POST", CHAT, b""),
        ("POST", CHAT, b"  "),
        ("POST", CHAT, text_of([{"model": "m"}])),
        ("POST", CHAT, b"model=m"),
        ("POST", CHAT, text_of({"messages": MESSAGES})),
        ("POST", CHAT, text_of({"messages": MESSAGES, "metadata": {"model": "m"}})),
        ("POST", CHAT, text_of({"messages": [{"content": '"model"'}]})),
        ("POST", CHAT, text_of({"model": "", "messages": MESSAGES})),
        ("POST", CHAT, text_of({"model": " ", "messages": MESSAGES})),
        ("POST", CHAT, text_of({"model": None, "messages": MESSAGES})),
        ("POST", CHAT, text_of({"model": 7, "messages": MESSAGES})),
        ("POST", CHAT, text_of({"model": ["m"], "messages": MESSAGES})),
        ("POST", CHAT, text_of({"model": "m", "messages": MESSAGES})[:-1]),
        ("POST", CHAT, text_of({"model": "m", "messages": MESSAGES}) + b"x"),
        ("POST", CHAT, b'{"model":"\xff","messages":[]}'),
        ("POST", CHAT, b'{"model":"m","messages":' + b"[" * 100_000),
        ("POST", CHAT, b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        ("POST", "/cars", text_of({"model": "of a car", "colour": "red"})),
        ("POST", "/v1/messages/count_tokens?beta=true", text_of({"model": "m", "messages": MESSAGES})),
        ("POST", "/v1/responses/input_tokens", text_of({"model": "m", "input": "Hello"})),
        ("POST", "/openai/deployments//chat/completions", text_of({"messages": MESSAGES})),
        ("POST", "/openai/deployments/d/chat/completions", b"{"),
    ],
)
def test_what_is_no_such_request(method: str, path: str, body: bytes) -> None:
    assert read_asked(method, path, body) is None


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_where_only_models_are_asked_a_name_is_enough(path: str) -> None:
    assert asked(path, model="m") == Asked("m", REQUEST_TOKENS, None)


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
    assert found == Asked("ada", tokens_of("Hello"), 0)


@pytest.mark.parametrize(
    "value", [None, "100", -1, -(10**30), 1.5, 1e3, True, [100], {}, MAX_TOKENS + 1, 2**64, 10**400, float("1e308")]
)
@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_limit_that_is_none_is_as_good_as_not_given(member: str, value: Any) -> None:
    assert asked(CHAT, model="m", messages=MESSAGES, **{member: value}) == Asked("m", tokens_of(MESSAGES), None)


@pytest.mark.parametrize("value", [None, "2", 0, -2, 1.5, True, 10**30])
@pytest.mark.parametrize("member", ["n", "best_of"])
def test_a_number_of_choices_that_is_none_is_one(member: str, value: Any) -> None:
    found = asked(CHAT, model="m", messages=MESSAGES, max_tokens=10, **{member: value})
    assert found.max_completion_tokens == 10


def test_a_limit_times_the_choices_is_capped() -> None:
    for limits in ({"max_tokens": MAX_TOKENS}, {"max_tokens": MAX_TOKENS, "n": 2}, {"max_tokens": 2, "n": MAX_TOKENS}):
        assert asked(CHAT, model="m", **limits).max_completion_tokens == MAX_TOKENS


@pytest.mark.parametrize("value", [7, "a text", {"a": "b"}, True, ["x"]])
@pytest.mark.parametrize("member", ["messages", "prompt", "input", "system", "instructions", "tools", "functions"])
def test_a_prompt_of_any_type_is_counted(member: str, value: Any) -> None:
    assert asked(CHAT, model="m", **{member: value}).prompt_tokens == tokens_of(value)


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
    body = b'{"model":"m","messages":[{"content":"a \\ud83d"}],"x":"\\udc00 \\\\ud800"}'
    assert read_asked("POST", CHAT, body) == Asked("m", 11, None)
    assert read_asked("POST", CHAT, b'{"model":"m\\ud83d","messages":[]}') == Asked("m\ufffd", 5, None)


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
