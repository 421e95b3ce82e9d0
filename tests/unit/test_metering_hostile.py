"""Answers that are made to mislead, to break or to cost: nothing raises, and memory and time are bounded."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metered_answers import (
    ASKED,
    CHAT_USAGE,
    RESPONSE,
    STREAMS,
    chunk,
    completion,
    events,
    one_by_one,
    told,
    used_of,
)

from vastar_runtime.metering.answered import Meter, Used
from vastar_runtime.metering.asked import Asking
from vastar_runtime.metering.event_stream import (
    MAX_EVENTS_OF_A_PIECE,
    MAX_LINE_BYTES,
    MAX_VOID_EVENTS,
    MIN_EVENT_BYTES,
)
from vastar_runtime.metering.whole_body import MAX_KEPT_BYTES, TAIL_BYTES

MIB = 1024 * 1024
QUOTE = '"usage":{"prompt_tokens":1,"completion_tokens":1} \\" "usage" : {"prompt_tokens":2,"completion_tokens":2}'


def cut(body: bytes, size: int) -> Iterable[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def embeddings(vectors: int) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": [0.0123456789] * 512} for index in range(vectors)]
    usage = {"prompt_tokens": 4000, "total_tokens": 4000}
    return json.dumps({"object": "list", "data": data, "model": "embedder", "usage": usage}).encode()


@pytest.mark.parametrize("filling", [0, 1000, MAX_KEPT_BYTES], ids=["short", "medium", "long"])
def test_a_text_that_quotes_a_usage_is_not_taken_for_it(filling: int) -> None:
    text = QUOTE + "." * filling + QUOTE
    for usage in (CHAT_USAGE, {**CHAT_USAGE, "comment": QUOTE}):
        body = json.dumps(completion({"content": text}, usage=usage)).encode()
        for pieces in ([body], cut(body, 1000), cut(body, 777)):
            assert used_of(pieces) == told("gpt-4.1-2025-04-14", 2006, 1920, 300)
    without = json.dumps(completion({"content": text})).encode()
    used = used_of([without])
    assert used.is_estimated
    assert used.prompt_tokens == ASKED.prompt_tokens
    stream = events(chunk({"content": text}), chunk(usage=CHAT_USAGE))
    assert used_of([stream]) == told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)


@pytest.mark.parametrize("size", [100, 4096, TAIL_BYTES, 200_000, 100 * MIB])
def test_a_long_body_is_read_by_its_end(size: int) -> None:
    body = embeddings(500)
    assert len(body) > 10 * MAX_KEPT_BYTES
    assert used_of(cut(body, size)) == told("embedder", 4000, 0, 0)


def test_a_body_of_any_length_around_what_is_kept_is_read() -> None:
    frame = len(json.dumps(completion({"content": ""}, usage=CHAT_USAGE)))
    for length in (MAX_KEPT_BYTES + n for n in (-1, 0, 1, TAIL_BYTES)):
        body = json.dumps(completion({"content": "x" * (length - frame)}, usage=CHAT_USAGE)).encode()
        assert len(body) == length
        for size in (length, length - 1, TAIL_BYTES, 10_000):
            assert used_of(cut(body, size)) == told("gpt-4.1-2025-04-14", 2006, 1920, 300)


def test_of_a_long_body_only_a_bounded_part_is_kept() -> None:
    piece = embeddings(50)
    meter = Meter(Asking.known(ASKED))
    meter.head(200, ())
    tracemalloc.start()
    try:
        for _ in range(100):
            meter.feed(piece)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * MAX_KEPT_BYTES
    assert peak < 4 * MAX_KEPT_BYTES


def test_what_follows_a_usage_is_no_hindrance_and_a_parameter_of_that_name_is_passed_over() -> None:
    long = {**RESPONSE, "instructions": "x" * MAX_KEPT_BYTES, "text": {"usage": {"type": "object"}}}
    body = json.dumps({**long, "user": 'a "usage": {} in a name', "tools": [{"usage": {"a": {"b": {}}}}] * 3}).encode()
    used = used_of([body])
    assert (used.prompt_tokens, used.cached_prompt_tokens, used.completion_tokens) == (36, 32, 87)
    assert not used.is_estimated


@pytest.mark.parametrize(
    "end", [b'"usage":{', b'"usage":{' + b'{"a":' * 5000, b'"usage":{}' * 9000, b'"usage":{}}}' + b"}" * 60_000]
)
def test_a_long_body_with_a_mangled_usage_is_estimated(end: bytes) -> None:
    used = used_of([b'{"model":"m","x":"' + b"x" * MAX_KEPT_BYTES + b'",' + end])
    assert used.is_estimated
    assert used.completion_tokens >= MAX_KEPT_BYTES // 3


def test_a_line_that_is_too_long_counts_by_its_size_and_the_next_is_read() -> None:
    long = events(chunk({"content": "x" * MAX_LINE_BYTES}))
    size = len(long) - len("data:\n\n")
    stream = events(chunk({"content": "One"})) + long + b": " + long + events(chunk({"content": "two"}))
    for pieces in ([stream], cut(stream, 65_536), cut(stream, 999), cut(stream, MAX_LINE_BYTES)):
        used = used_of(pieces)
        assert used == Used("gpt-4o-mini-2024-07-18", 1000, 0, used.completion_tokens, is_estimated=True)
        assert size // 3 + 2 <= used.completion_tokens <= size // 3 + 4
    assert used_of([long[:-2]]).completion_tokens == -(-size // 3)
    assert used_of([b": ", long[:-2]]).completion_tokens == 0
    assert not used_of([stream, events(chunk(usage=CHAT_USAGE))]).is_estimated


def test_the_usage_in_a_line_that_is_too_long_is_found() -> None:
    long = {**RESPONSE, "instructions": "x" * MAX_LINE_BYTES}
    created = {"type": "response.created", "response": {**RESPONSE, "usage": None}}
    stream = events(created, {"type": "response.output_text.delta", "delta": "A park"}, {"response": long})
    for pieces in ([stream], cut(stream, 65_536), cut(stream, 999_983), [stream.rstrip()]):
        assert used_of(pieces) == STREAMS["responses"].used


def test_a_line_just_as_long_as_is_read_is_read_however_it_is_cut() -> None:
    frame = len(events(chunk({"content": ""})).strip()) - len("data:")
    for size, tokens in ((MAX_LINE_BYTES, (MAX_LINE_BYTES - frame + 2) // 3), (MAX_LINE_BYTES + 1, 349_526)):
        line = events(chunk({"content": "x" * (size - frame)}))
        for pieces in ([line], cut(line, 65_536), [b": x\n" + line[:7], line[7:]], [line.rstrip()]):
            assert used_of(pieces).completion_tokens == tokens


def test_a_line_without_end_takes_bounded_memory() -> None:
    meter = Meter(Asking.known(ASKED))
    meter.head(200, ())
    meter.feed(b"data: {")
    tracemalloc.start()
    try:
        for _ in range(200):
            meter.feed(b" " * 65_536)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_LINE_BYTES
    assert meter.used().completion_tokens == -(-(200 * 65_536 + 2) // 3)


INVALID = (
    b"data: {",
    b"data: {]",
    b"data: [DONE]",
    b"data: ping",
    b"data:",
    b"data",
    b"data: 7",
    b'data: {"model":"\xff"}',
    b'data: {"choices":[{"delta":{"content":"\xff"}}',
    b'data: {"choices":' + b"[" * 5000,
    b'data: {"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'data: {"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}",
    b'data: {"usage":{"prompt_tokens":1e9999,"completion_tokens":-0.0}}',
    b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}',
    b"event: \xff\x00",
)


def test_events_that_are_none_are_passed_over() -> None:
    for line in INVALID:
        stream = b"\n" + b": a stream\n" + line + b"\n\n" + STREAMS["chat"].body
        assert used_of([stream]) == STREAMS["chat"].used
        assert used_of(one_by_one(stream)) == STREAMS["chat"].used
        after = used_of([STREAMS["chat"].body, line])
        assert after.completion_tokens == 300 or after.is_estimated


@pytest.mark.parametrize(("size", "tokens"), [(1, 1), (200, 1), (3000, 928)])
def test_an_object_that_cannot_be_read_counts_as_text(size: int, tokens: int) -> None:
    assert (
        used_of([b'data: {"choices":[{"delta":{"content":"' + b"\x01" * size + b'"}}]}\n']).completion_tokens == tokens
    )
    of_other_types = events({"choices": [{"delta": {"content": ["x" * size]}}]})
    assert tokens - 6 <= used_of([of_other_types]).completion_tokens <= tokens


def test_of_a_stream_of_void_events_a_bounded_part_is_looked_at_and_the_rest_counts_by_its_size() -> None:
    one = events(chunk({"content": "One"}))
    rest = -(-len(one) // 3)
    for void in (b"data: {\n", b"data:\n", b"data: " + b"x" * MIN_EVENT_BYTES + b"\n"):
        assert used_of([*cut(void * (MAX_VOID_EVENTS - 1), 1000 * len(void)), one]).completion_tokens == 1
        pieces = [*cut(void * MAX_VOID_EVENTS, 1000 * len(void)), one]
        assert used_of(pieces).completion_tokens == rest
        assert used_of([*pieces[:-1], one.strip()]).completion_tokens >= rest - 1


def test_of_a_piece_a_bounded_number_of_events_is_read_and_its_end() -> None:
    one = events(chunk({"content": "One"}))
    stream = one * (MAX_EVENTS_OF_A_PIECE + 1000)
    assert used_of(cut(stream, 65_536)).completion_tokens == MAX_EVENTS_OF_A_PIECE + 1000
    whole = used_of([stream]).completion_tokens
    assert MAX_EVENTS_OF_A_PIECE + 900 * len(one) // 3 <= whole <= MAX_EVENTS_OF_A_PIECE + 1000 * len(one) // 3
    for end in (events(chunk(usage=CHAT_USAGE), "[DONE]"), events(chunk(usage=CHAT_USAGE)).strip()):
        assert used_of([stream + end]) == told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)
    long = events(chunk({"content": "x" * 20_000}))
    for end in (long, long[:-2], long[:19_000], b": comment\n" + b":" * 20_000):
        assert used_of([stream + end]).completion_tokens >= whole - 6
        assert used_of([stream + end[:10_000], end[10_000:]]).completion_tokens >= whole - 6
    assert used_of([stream + long[:10_000], long[10_000:] + events(chunk(usage=CHAT_USAGE))]).completion_tokens == 300


def test_no_piece_takes_long() -> None:
    dense = b'data: {"choices":[' + b"{}," * 1300 + b"{}]}\n"
    odd = b'data: {"choices":[{"text":1,"a":"\\ud83d"}],"usage":{"prompt_tokens":"1","completion_tokens":2}}\n'
    for unit in (dense, odd, b"data: {\n", b"data:\n", b"\r", b"\n", b"data: " + b"[{}," * 400_000):
        meter = Meter(Asking.known(ASKED))
        meter.head(200, ())
        begun_s = time.process_time()
        meter.feed(b"x\n" + unit * (8 * MIB // len(unit)))
        meter.used()
        assert time.process_time() - begun_s < 0.3  # it takes up to 12 ms


@pytest.mark.parametrize("body", [b"{" * 3000, b'{"a":' * 5000, b'{"choices":' + b"[" * 5000, b'{"usage":' * 3000])
def test_deep_nesting_is_estimated(body: bytes) -> None:
    used = used_of([body])
    assert used == Used("asked-for", 1000, 0, -(-len(body) // 3), is_estimated=True)


@pytest.mark.parametrize(
    "body", [b"<html>", b"\xff" * 1000, b"", b"\r\n" * 1000, b"ID3\x04\x00\x00", bytes(range(256)) * 10]
)
def test_a_body_of_another_kind_brings_no_text(body: bytes) -> None:
    assert used_of([body]) == Used("asked-for", 1000, 0, 0, is_estimated=True)
    assert used_of(one_by_one(body)) == Used("asked-for", 1000, 0, 0, is_estimated=True)


FRAGMENTS = (
    b"data: ",
    b"data:",
    b"\n",
    b"\r",
    b"\r\n",
    b"{",
    b"}",
    b'{"choices":[{"delta":{"content":"Hello"}}]}',
    b'{"choices":[{"delta":{"content":["Hello"]}}]}',
    b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}',
    b'{"message":{"usage":{"input_tokens":3,"output_tokens":1}}}',
    b'{"delta":{"text":"Hello"}}',
    b'{"delta":"\\ud800"}',
    b'"usage":',
    b'"model":"m"',
    b"\xef\xbb\xbf",
    b"\xff",
    b" ",
)


@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5), max_size=40).map(b"".join),
    st.lists(st.integers(0, 400), max_size=8).map(sorted),
    st.sampled_from([None, "compress", "gzip, " * 3 + "gzip", "\xff"]),
    st.sampled_from([200, 404]),
)
def test_no_bytes_at_all_upset_it_and_no_cut_changes_it(
    body: bytes, cuts: list[int], encoding: str | None, status_code: int
) -> None:
    edges = [0, *cuts, len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    whole = used_of([body], encoding=encoding, status_code=status_code)
    assert used_of(pieces, encoding=encoding, status_code=status_code) == whole
    assert used_of(one_by_one(body), encoding=encoding, status_code=status_code) == whole
