"""What answers say they used: every API, whole and streamed, cut anywhere and broken off anywhere."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from metered_answers import (
    ANSWERS,
    ANTHROPIC_USAGE,
    ASKED,
    BODIES,
    CHAT_USAGE,
    HELLO,
    MESSAGE,
    RESPONSE,
    Answer,
    chunk,
    completion,
    events,
    one_by_one,
    told,
    used_of,
)

from vastar_runtime.metering.answered import Meter, Used
from vastar_runtime.metering.asked import Asked, Asking

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}
every_answer = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)


@every_answer
def test_an_answer_is_read_whole_and_byte_by_byte(answer: Answer) -> None:
    assert used_of([answer.body]) == answer.used
    assert used_of(one_by_one(answer.body)) == answer.used


@given(st.sampled_from([*ANSWERS.values()]), st.lists(st.integers(0, 3000), max_size=8).map(sorted))
def test_an_answer_is_read_however_it_is_cut(answer: Answer, cuts: list[int]) -> None:
    edges = [0, *cuts, len(answer.body)]
    assert used_of([answer.body[a:b] for a, b in itertools.pairwise(edges)]) == answer.used


@pytest.mark.parametrize("encoding", ENCODERS)
@every_answer
def test_an_answer_that_is_still_encoded_is_read(answer: Answer, encoding: str) -> None:
    encoded = ENCODERS[encoding](answer.body)
    assert used_of([encoded], encoding=encoding) == answer.used
    assert used_of(one_by_one(encoded), encoding=encoding) == answer.used


def test_a_refusal_that_says_it_used_something_is_believed() -> None:
    assert used_of([BODIES["chat"].body], status_code=500) == BODIES["chat"].used
    only_prompt = [b'{"usage":{"prompt_tokens":7}}']
    assert used_of(only_prompt, status_code=400) == told("asked-for", 7, 0, 0)


def test_an_answer_to_the_request_sent_again_is_read_anew() -> None:
    meter = Meter(Asking.known(ASKED))
    meter.head(200, ((b"content-encoding", b"gzip"),))
    meter.feed(gzip.compress(BODIES["embeddings"].body))
    meter.head(200, ())
    assert meter.used() == Used("asked-for", 1000, 0, 0, is_estimated=True)
    meter.feed(BODIES["chat"].body)
    assert meter.used() == BODIES["chat"].used


@every_answer
def test_an_answer_that_breaks_off_is_estimated_until_its_usage_has_come(answer: Answer) -> None:
    meter = Meter(Asking.known(ASKED))
    meter.head(200, ())
    seen = [meter.used()]
    for byte in one_by_one(answer.body):
        meter.feed(byte)
        seen.append(meter.used())
    assert seen[0] == Used("asked-for", 1000, 0, 0, is_estimated=True)
    assert seen[-1] == answer.used
    assert {used.model for used in seen} == {"asked-for", answer.used.model}
    assert {used.prompt_tokens for used in seen} <= {0, 1000, answer.used.prompt_tokens}
    assert all(used.is_estimated for used in seen if used.prompt_tokens == 1000)


def stream_of(*deltas: dict[str, Any]) -> list[bytes]:
    return [events(chunk(delta)) for delta in deltas]


@pytest.mark.parametrize(
    ("pieces", "tokens"),
    [
        (stream_of({"role": "assistant", "content": ""}, {"content": None}, {}), 0),
        (stream_of({"content": "a"}), 1),
        (stream_of(*[{"content": "a"}] * 5), 5),  # a token each, at least
        (stream_of(*[{"content": "abcdef"}] * 5), 10),
        (stream_of({"content": "äöü 世界"}), 6),
        (stream_of({"reasoning_content": "thinking "}, {"reasoning": "of it "}), 5),
        (stream_of({"reasoning_content": "the same", "reasoning": "the same"}), 3),
        (stream_of({"refusal": "I cannot."}), 3),
        (stream_of({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "get", "arguments": ""}}]}), 1),
        (stream_of({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1'}}, {"index": 1}]}), 2),
        (stream_of({"function_call": {"name": "get", "arguments": None}}), 1),
        ([events(chunk({"content": "first"}, {"content": "second"}))], 4),  # two choices
        ([events({"object": "text_completion", "choices": [{"text": "once upon a"}]})], 4),
        ([events({"type": "response.output_text.delta", "delta": "a park by"})], 3),
        ([events({"type": "response.function_call_arguments.delta", "delta": "{}"})], 1),
        ([events({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}})], 2),
        ([events({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hello"}})], 2),
        ([events({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}})], 1),
        ([events({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "Eq"}})], 0),
        # of other types than in any known API: a token each
        (stream_of({"content": [{"type": "text", "text": "a list of parts"}]}, {"tool_calls": {}}), 2),
        ([b'data: {"choices":[{"delta":{"content":"half of an emoji: \\ud83d"}}]}\n\n'], 1),
    ],
)
def test_without_usage_the_text_of_the_deltas_is_counted(pieces: list[bytes], tokens: int) -> None:
    used = used_of(pieces)
    assert used == Used(used.model, 1000, 0, tokens, is_estimated=True)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (completion({"content": "a text of 24 characters."}), 8),
        (completion({"content": None, "tool_calls": [{"function": {"name": "get", "arguments": "{}"}}]}), 2),
        ({"choices": [{"text": "abc"}, {"text": "def"}]}, 2),
        ({"choices": "of another type"}, 6),
        ({"choices": None, "content": None, "data": "of something else"}, 0),
        ({**MESSAGE, "usage": None}, 17),
        ({**RESPONSE, "usage": []}, 52),
        ({"error": "in an answer of 200"}, 0),
    ],
)
def test_without_usage_the_text_of_a_body_is_counted(body: dict[str, Any], tokens: int) -> None:
    used = used_of([json.dumps(body, separators=(",", ":")).encode()])
    assert used == Used(used.model, 1000, 0, tokens, is_estimated=True)


def test_what_was_told_before_a_break_is_kept_and_the_text_since_estimated() -> None:
    start, hello = events(chunk({"content": "One"}, usage=CHAT_USAGE)), events(chunk({"content": "Hello"}))
    assert used_of([start]) == told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)
    assert used_of([start, hello]) == Used("gpt-4o-mini-2024-07-18", 2006, 1920, 302, is_estimated=True)


def test_anthropic_tells_of_the_prompt_first_and_the_completion_is_at_least_what_the_start_says() -> None:
    usage = {**ANTHROPIC_USAGE, "output_tokens": 3}
    start = events({"type": "message_start", "message": {**MESSAGE, "usage": usage}}, named=True)
    delta = events({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}, named=True)
    assert used_of([start]) == Used(MESSAGE["model"], 5209, 5000, 3, is_estimated=True)
    assert used_of([start, delta]) == Used(MESSAGE["model"], 5209, 5000, 3, is_estimated=True)
    assert used_of([start, delta * 9]) == Used(MESSAGE["model"], 5209, 5000, 15, is_estimated=True)


def test_a_completion_without_its_prompt_is_taken_as_told() -> None:
    end = events({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15}})
    assert used_of([end]) == Used("asked-for", 1000, 0, 15, is_estimated=True)


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        ({"prompt_tokens": -1, "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": 1.5, "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": "9", "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": True, "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": 2**53 + 1, "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": 10**400, "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": [[]], "completion_tokens": 5}, (1000, 0, 5)),
        ({"prompt_tokens": 9, "completion_tokens": None}, (9, 0, 2)),
        ({"total_tokens": 9}, (1000, 0, 2)),
        ({}, (1000, 0, 2)),
        (None, (1000, 0, 2)),
        ("none", (1000, 0, 2)),
        ([1, 2], (1000, 0, 2)),
    ],
)
def test_numbers_that_are_none_are_as_good_as_not_told(usage: Any, used: tuple[int, int, int]) -> None:
    body = json.dumps(completion({"content": "Hello"}, usage=usage)).encode()
    assert used_of([body]) == Used("gpt-4.1-2025-04-14", *used, is_estimated=True)
    stream = used_of([events(chunk({"content": "Hello"}), chunk(usage=usage))])
    # an event with a member of another type counts as text, when there is any
    assert stream == Used("gpt-4o-mini-2024-07-18", *used, is_estimated=True)


def test_the_largest_numbers_are_believed_and_details_of_other_types_ignored() -> None:
    usage = {"prompt_tokens": 2**53, "completion_tokens": 0, "prompt_tokens_details": [1]}
    body = json.dumps({"usage": usage}).encode()
    assert used_of([body]) == told("asked-for", 2**53, 0, 0)
    usage["prompt_tokens_details"] = {"cached_tokens": 2**53}
    usage["prompt_tokens"] = 5
    assert used_of([json.dumps({"usage": usage}).encode()]) == told("asked-for", 5, 5, 0)


def test_a_translator_that_writes_zero_at_the_end_does_not_undo_the_prompt() -> None:
    start = events({"type": "message_start", "message": {"usage": {"input_tokens": 21, "output_tokens": 1}}})
    end = events({"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 15}})
    assert used_of([start, end]) == told("asked-for", 21, 0, 15)


@pytest.mark.parametrize("usage", [{"total_tokens": 9}, {"prompt_tokens": 9}, {"input_tokens": 9}])
@pytest.mark.parametrize("vectors", [1, 100_000])
def test_where_no_completion_is_asked_for_one_number_tells_all(usage: dict[str, int], vectors: int) -> None:
    body = json.dumps({"data": [[0.5]] * vectors, "model": "embedder", "usage": usage}).encode()
    assert used_of([body], asked=Asked("m", 1000, 0)) == told("embedder", 9, 0, 0)
    assert used_of([body[:-2]], asked=Asked("m", 1000, 0)) == Used("embedder", 1000, 0, 0, is_estimated=True)
    assert used_of([body], asked=Asked("m", 1000, 5)).is_estimated


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("m" * 200, "m" * 128),
        ("two\nlines\x1b[31m", "two?lines?[31m"),
        ("  ", "asked-for"),
        ("", "asked-for"),
        (7, "asked-for"),
        (None, "asked-for"),
        ("Modèle-大", "Modèle-大"),
    ],
)
def test_a_models_name_is_made_fit_to_print(model: Any, shown: str) -> None:
    assert used_of([json.dumps({"model": model}).encode()]).model == shown
    assert used_of([events({"model": model, "choices": []})]).model == shown
    assert used_of([events({"type": "message_start", "message": {"model": model}})]).model == shown


def test_hello_is_read_from_a_stream_that_was_never_said_to_be_one() -> None:
    for content_type in (b"text/event-stream; charset=utf-8", b"application/json", b"text/plain"):
        meter = Meter(Asking.known(ASKED))
        meter.head(200, ((b"content-type", content_type),))
        meter.feed(events(*HELLO))
        assert meter.used().completion_tokens == 4


_NUMBERS = st.one_of(st.integers(-1, 3), st.integers(0, 2**53 + 1), st.floats(), st.none(), st.text(max_size=3))


@given(
    model=st.one_of(st.text(max_size=3), st.just("gpt-4o-mini"), st.just("m" * 200), st.none()),
    usage=st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
            optional={
                "total_tokens": _NUMBERS,
                "prompt_tokens_details": st.one_of(
                    st.none(), st.dictionaries(st.just("cached_tokens"), _NUMBERS, max_size=1)
                ),
                "prompt_cache_hit_tokens": _NUMBERS,
                "input_tokens": _NUMBERS,
                "output_tokens": _NUMBERS,
                "cache_read_input_tokens": _NUMBERS,
                "cache_creation_input_tokens": _NUMBERS,
                "input_tokens_details": st.dictionaries(st.just("cached_tokens"), _NUMBERS, max_size=1),
            },
        ),
        st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), _NUMBERS),
    ),
    status_code=st.sampled_from([200, 206, 400, 500]),
    limit=st.sampled_from([None, 0, 7]),
)
def test_an_answer_that_came_whole_is_counted_as_one_that_came_in_two_pieces(
    model: str | None, usage: Any, status_code: int, limit: int | None
) -> None:
    """The short way, which most answers take, and the long one."""
    body = json.dumps({"model": model, "choices": [{"message": {"content": "four words of text"}}], "usage": usage})
    asked = Asked("asked-for", 1000, limit)

    whole = used_of([body.encode()], asked=asked, status_code=status_code)

    assert whole == used_of([body[:9].encode(), body[9:].encode()], asked=asked, status_code=status_code)


def test_what_is_asked_for_is_not_read_where_the_answer_tells_all() -> None:
    meter = Meter(Asking(lambda: pytest.fail("it was read")))
    meter.head(200, ())
    meter.feed(json.dumps({"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode())
    assert meter.used() == Used("m", 3, 0, 4, is_estimated=False)
