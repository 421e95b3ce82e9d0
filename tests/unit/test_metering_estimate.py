"""How many tokens a text has, about: not fewer than tokenizers count, and not many times as many."""

from __future__ import annotations

import base64
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.metering.estimate import IMAGE_TOKENS, estimated_tokens

MIB = 1024 * 1024


def base64_of(size: int) -> str:
    return base64.b64encode(random.Random(size).randbytes(size)).decode()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("The quick brown fox jumps over the lazy dog.", 15),  # 10 to a tokenizer
        ("def f(x):\n    return x + 1\n", 9),  # 11
        ("世界", 2),  # 1 or 2
        ("Größe", 3),  # 2
        ("Привет, мир", 10),  # 5
        ("😀", 1),
        ("a\0b", 1),
    ],
)
def test_plain_text(text: str, tokens: int) -> None:
    assert estimated_tokens(text.encode()) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("世界", 3),  # with its quotes
        ("Größe", 4),
        ("😀", 3),  # two escapes
        ("\x1f" * 9, 10),
        ("two\nlines", 4),
        (r"C:\users\under", 6),  # no escapes, though they look like it
        ("\\é", 4),  # an escape that looks like none
    ],
)
def test_text_as_json_with_escapes(text: str, tokens: int) -> None:
    assert estimated_tokens(json.dumps(text).encode()) == tokens


@given(st.text(max_size=200))
def test_escaped_or_not_a_text_has_about_as_many_tokens(text: str) -> None:
    escaped = estimated_tokens(json.dumps(text).encode())
    plain = estimated_tokens(json.dumps(text, ensure_ascii=False).encode(errors="replace"))
    assert plain / 2 - 1 <= escaped <= 2 * plain + 1


@given(st.binary(max_size=200))
def test_any_bytes_have_some_tokens_and_at_most_one_a_byte(text: bytes) -> None:
    assert len(text) / 6 - 1 <= estimated_tokens(text) <= len(text)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:image/svg+xml;charset=utf-8;base64,"])
@pytest.mark.parametrize("size", [3700, 4800, 7201, 100_000, 3 * MIB])
def test_a_string_of_base64_counts_as_an_image(size: int, prefix: str) -> None:
    for before in ("", "x" * 1000, "x y " * 2000):
        parts = [{"text": before}, {"url": prefix + base64_of(size)}, {"text": "What is this?"}]
        around = estimated_tokens(json.dumps([parts[0], {"url": ""}, parts[2]]).encode())
        estimated = estimated_tokens(json.dumps(parts).encode()) - around
        assert IMAGE_TOKENS - 1 <= estimated <= IMAGE_TOKENS + 60


def test_each_image_counts_and_a_small_one_by_its_size() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": base64_of(60_000)}}
    small = {"url": "data:image/gif;base64," + base64_of(300)}
    tokens = estimated_tokens(json.dumps([image, small] * 5).encode())
    assert 5 * (IMAGE_TOKENS + 400 // 3) < tokens < 5 * (IMAGE_TOKENS + 400 // 3 + 60)


def test_a_string_that_is_nothing_but_base64_may_be_all_there_is() -> None:
    assert estimated_tokens(json.dumps(base64_of(100_000)).encode()) == IMAGE_TOKENS + 1


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(f"What does {base64_of(30_000)} mean?"),
        json.dumps(json.dumps({"data": base64_of(30_000)})),
        json.dumps("![](data:image/png;base64," + base64_of(30_000) + ")"),
        json.dumps(f"{base64_of(30_000)} is it"),
        json.dumps("It is " + base64_of(30_000)),
        json.dumps(base64.encodebytes(random.Random(1).randbytes(30_000)).decode()),
        base64_of(30_000),
    ],
    ids=["between words", "JSON in JSON", "Markdown", "before words", "after words", "in lines", "not JSON"],
)
def test_base64_within_a_text_is_text_to_a_model(text: str) -> None:
    assert estimated_tokens(text.encode()) >= 40_000 // 3


def test_long_texts_are_not_images() -> None:
    for text in ("word " * 20_000, "字" * 100_000, "a.b," * 20_000, "x\n" * 50_000):
        assert estimated_tokens(json.dumps(text, ensure_ascii=False).encode()) >= len(text) // 3


@pytest.mark.parametrize(
    "unit",
    [b"A", b'"', b" ", b"\\", b"\\u", b"\xff", b"A" * 2500 + b" ", b'\\"' + b"A" * 2401, b'"' + b"A" * 4900 + b'"'],
)
def test_no_text_takes_long(unit: bytes) -> None:
    text = unit * (8 * MIB // len(unit))
    begun_s = time.process_time()
    estimated_tokens(text)
    assert time.process_time() - begun_s < 1  # it takes 20 ms; what is not linear would take many seconds
