"""Answers that are still encoded: what cannot be decoded counts, and what would cost too much is not decoded."""

from __future__ import annotations

import gzip
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
    STREAMS,
    chunk,
    events,
    one_by_one,
    told,
    used_of,
)
from msgspec.structs import replace

from vastar_runtime.metering.answered import MAX_DECODED_BYTES, Meter, Used
from vastar_runtime.metering.asked import Asked, Asking

MIB = 1024 * 1024


def cut(body: bytes, size: int) -> Iterable[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("encoding", ["compress", "dcb", "gzip, aws-chunked", ", ".join(["gzip"] * 4), "\xff"])
def test_a_body_in_an_unknown_encoding_counts_by_its_size(encoding: str) -> None:
    body = STREAMS["chat"].body
    tokens = -(-len(body) // 3)
    for pieces in ([body], one_by_one(body)):
        assert used_of(pieces, encoding=encoding) == Used("asked-for", 1000, 0, tokens, is_estimated=True)
    assert used_of([b"x"], encoding=encoding).completion_tokens == 1
    assert used_of([body], encoding=encoding, asked=Asked("m", 5, 0)) == Used("m", 5, 0, 0, is_estimated=True)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_not_in_its_encoding_counts_by_its_size(encoding: str) -> None:
    body = b"<html>" + b"\xff" * 50 + BODIES["chat"].body
    for pieces in ([body], cut(body, 6), one_by_one(body)):
        assert used_of(pieces, encoding=encoding) == Used("asked-for", 1000, 0, -(-len(body) // 3), is_estimated=True)


def test_an_encoded_stream_that_breaks_off_is_estimated_from_what_came() -> None:
    compressor = zlib.compressobj(wbits=31)
    piece = compressor.compress(events(chunk({"content": "Hello"}))) + compressor.flush(zlib.Z_SYNC_FLUSH)
    hello = Used("gpt-4o-mini-2024-07-18", 1000, 0, 2, is_estimated=True)
    assert used_of([piece], encoding="gzip") == hello
    broken = used_of([piece, b"\xff" * 100, piece], encoding="gzip")
    assert broken == replace(hello, completion_tokens=2 + -(-(100 + len(piece)) // 3))
    anew = Meter(Asking.known(ASKED))
    anew.head(200, ((b"content-encoding", b"compress"),))
    anew.feed(b"x" * 1000)
    anew.head(200, ())
    anew.feed(BODIES["chat"].body)
    assert anew.used() == BODIES["chat"].used


def test_encodings_may_come_in_several_headers() -> None:
    meter = Meter(Asking.known(ASKED))
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
def test_a_bomb_costs_bounded_memory_and_counts_as_what_the_request_allows(kind: str) -> None:
    encoding, make = BOMBS[kind]
    bomb = make()
    for asked in (ASKED, Asked("m", 5, 2_000_000)):
        meter = Meter(Asking.known(asked))
        tracemalloc.start()
        try:
            meter.head(200, ((b"content-encoding", encoding.encode()),))
            meter.feed(bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * MIB
        used = meter.used()
        assert used.is_estimated
        assert used.lacks_completion == (asked is ASKED)
        seen = (MAX_DECODED_BYTES + len(bomb)) // 3 + 1
        assert len(bomb) // 3 <= used.completion_tokens <= max(seen, asked.max_completion_tokens or 0)
        assert asked is ASKED or used.completion_tokens == 2_000_000
        meter.feed(bomb)
        assert meter.used().completion_tokens >= used.completion_tokens


def test_a_piece_that_shrank_as_text_does_is_read() -> None:
    words = [{"content": f" {number * 2654435761 % 2**32:x}"} for number in range(600)]
    stream = events(*map(chunk, words), chunk(usage=CHAT_USAGE))
    encoded = gzip.compress(stream)
    assert len(stream) > 128 * 1024
    assert len(stream) > 15 * len(encoded)
    assert used_of([encoded], encoding="gzip") == told("gpt-4o-mini-2024-07-18", 2006, 1920, 300)


@given(st.binary(max_size=60), st.sampled_from(["gzip", "br", "zstd", "deflate", "gzip, gzip"]), st.booleans())
def test_no_bytes_at_all_upset_a_decoder(body: bytes, encoding: str, is_cut: bool) -> None:
    used = used_of(one_by_one(body) if is_cut else [body], encoding=encoding)
    assert used == Used("asked-for", 1000, 0, used.completion_tokens, is_estimated=True)
    assert 0 <= used.completion_tokens <= 20
