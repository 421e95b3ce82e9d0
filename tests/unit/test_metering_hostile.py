"""Answers that are made to mislead, to break or to cost: nothing raises, and memory and time are bounded."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from metered_answers import (
    ASKED,
    BODIES,
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

from vastar_runtime.metering.answered import MAX_DECODED_BYTES, Meter, Used
from vastar_runtime.metering.event_stream import MAX_LINE_BYTES, MAX_VOID_EVENTS, MIN_EVENT_BYTES
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
    meter = Meter(ASKED)
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


def test_a_line_that_is_too_long_counts_as_a_token_and_the_next_is_read() -> None:
    long = events(chunk({"content": "x" * MAX_LINE_BYTES}))
    stream = events(chunk({"content": "One"})) + long + b": " + long + events(chunk({"content": "two"}))
    for pieces in ([stream], cut(stream, 65_536), cut(stream, 999), cut(stream, MAX_LINE_BYTES)):
        assert used_of(pieces) == Used("gpt-4o-mini-2024-07-18", 1000, 0, 3, is_estimated=True)
    assert used_of([long[:-2]]).completion_tokens == 1
    assert used_of([b": ", long[:-2]]).completion_tokens == 0
    assert not used_of([stream, events(chunk(usage=CHAT_USAGE))]).is_estimated


def test_a_line_just_as_long_as_is_read_is_read_however_it_is_cut() -> None:
    frame = len(events(chunk({"content": ""})).strip()) - len("data:")
    for size, tokens in ((MAX_LINE_BYTES, (MAX_LINE_BYTES - frame + 2) // 3), (MAX_LINE_BYTES + 1, 1)):
        line = events(chunk({"content": "x" * (size - frame)}))
        for pieces in ([line], cut(line, 65_536), [b": x\n" + line[:7], line[7:]], [line.rstrip()]):
            assert used_of(pieces).completion_tokens == tokens


def test_a_line_without_end_takes_bounded_memory() -> None:
    meter = Meter(ASKED)
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
    assert meter.used().completion_tokens == 1


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
        assert used_of([stream[:-1], line]) == STREAMS["chat"].used
        assert used_of(one_by_one(stream)) == STREAMS["chat"].used


def test_of_a_stream_of_void_events_a_bounded_part_is_looked_at() -> None:
    one = events(chunk({"content": "One"}))
    for void in (b"data: {\n", b"data:\n", b"data: " + b"x" * MIN_EVENT_BYTES + b"\n"):
        assert used_of([void * (MAX_VOID_EVENTS - 1), one]).completion_tokens == 1
        assert used_of([void * MAX_VOID_EVENTS, one]).completion_tokens == 0
        assert used_of([void * MAX_VOID_EVENTS + one]).completion_tokens == 0
        assert used_of([void * MAX_VOID_EVENTS, one.strip()]).completion_tokens == 0


@pytest.mark.parametrize("body", [b"{" * 3000, b'{"a":' * 5000, b'{"choices":' + b"[" * 5000, b'{"usage":' * 3000])
def test_deep_nesting_is_estimated(body: bytes) -> None:
    used = used_of([body])
    assert used == Used("asked-for", 1000, 0, -(-len(body) // 3), is_estimated=True)


@pytest.mark.parametrize(
    "body", [b"<html>", b"\xff" * 1000, b"", b"\r\n" * 1000, b"ID3\x04\x00\x00", bytes(range(256)) * 10, b"[1, 2]"]
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
    st.sampled_from([None, "gzip", "br", "zstd", "deflate", "compress", "gzip, gzip", "\xff"]),
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


# --- encodings ---


@pytest.mark.parametrize("encoding", ["compress", "gzip, aws-chunked", ", ".join(["gzip"] * 4)])
def test_a_body_in_an_unknown_encoding_is_not_read(encoding: str) -> None:
    assert used_of([STREAMS["chat"].body], encoding=encoding) == Used("asked-for", 1000, 0, 0, is_estimated=True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_not_in_its_encoding_ends_the_reading(encoding: str) -> None:
    meter = Meter(ASKED)
    meter.head(200, ((b"content-encoding", encoding.encode()),))
    for piece in (b"<html>", b"\xff" * 50, BODIES["chat"].body):
        meter.feed(piece)
    assert meter.used() == Used("asked-for", 1000, 0, 0, is_estimated=True)


def test_an_encoded_stream_that_breaks_off_is_estimated_from_what_came() -> None:
    compressor = zlib.compressobj(wbits=31)
    piece = compressor.compress(events(chunk({"content": "Hello"}))) + compressor.flush(zlib.Z_SYNC_FLUSH)
    hello = Used("gpt-4o-mini-2024-07-18", 1000, 0, 2, is_estimated=True)
    assert used_of([piece], encoding="gzip") == hello
    assert used_of([piece, b"\xff" * 100, piece], encoding="gzip") == hello


def test_encodings_may_come_in_several_headers() -> None:
    meter = Meter(ASKED)
    meter.head(200, ((b"content-encoding", b"gzip"), (b"x", b"y"), (b"content-encoding", b"zstd")))
    meter.feed(zstandard.compress(gzip.compress(BODIES["chat"].body)))
    assert meter.used() == BODIES["chat"].used


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zeros": ("gzip", lambda: gzip.compress(bytes(32 * MIB))),
    "JSON": ("gzip", lambda: gzip.compress(b'{"x":"' + b" " * (32 * MIB))),
    "events": ("gzip", lambda: gzip.compress(b"data: {}\n" * (2 * MIB))),
    "one event": ("br", lambda: brotli.compress(b"data: {" + b" " * (32 * MIB), quality=1)),
    "zstd": ("zstd", lambda: zstandard.compress(bytes(32 * MIB))),
    "two layers": ("gzip, gzip", lambda: gzip.compress(gzip.compress(bytes(32 * MIB)))),
    "padding": ("deflate, gzip", lambda: gzip.compress(zlib.compress(b"{}") + bytes(32 * MIB))),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_costs_bounded_memory_and_ends_the_reading(kind: str) -> None:
    encoding, make = BOMBS[kind]
    bomb = make()
    tracemalloc.start()
    try:
        meter = Meter(ASKED)
        meter.head(200, ((b"content-encoding", encoding.encode()),))
        meter.feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    used = meter.used()
    assert used.is_estimated
    assert used.completion_tokens <= MAX_DECODED_BYTES // 3 + 1
    meter.feed(bomb)
    assert meter.used() == used


def test_a_long_piece_that_shrank_as_text_does_is_read() -> None:
    words = [{"content": f" word{number}"} for number in range(20_000)]
    stream = events(*map(chunk, words), chunk(usage=CHAT_USAGE))
    encoded = gzip.compress(stream)
    assert len(stream) > 4 * MIB
    assert len(stream) > 80 * len(encoded)
    assert used_of([encoded], encoding="gzip") == told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)
