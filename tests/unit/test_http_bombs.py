"""Compressed bombs: a body that expands a thousandfold costs its reader only what the reader takes."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import brotli
import pytest
import zstandard

from vastar_runtime.http.connection import READ_BYTES
from vastar_runtime.http.decoding import MAX_STEP_BYTES, BodyDecoder

GIB = 1024 * 1024 * 1024
LIMIT = 10 * 1024 * 1024
ZEROS = bytes(1024 * 1024)


def _zlib_pieces(window_bits: int) -> Iterator[bytes]:
    compressor = zlib.compressobj(9, wbits=window_bits)
    while True:
        yield compressor.compress(ZEROS)


def _brotli_pieces() -> Iterator[bytes]:
    compressor = brotli.Compressor(quality=1)
    while True:
        yield compressor.process(ZEROS) + compressor.flush()


def _zstd_pieces() -> Iterator[bytes]:
    """The densest frame there is: each block is one byte, to be repeated 128 KiB times (RFC 8878, section 3.1.1.2)."""
    yield b"\x28\xb5\x2f\xfd\x00\x38"  # no checksum, no size, window of 128 KiB
    repeat = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    while True:
        yield repeat * 1024


BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "gzip": lambda: _zlib_pieces(31),
    "deflate": lambda: _zlib_pieces(15),
    "raw deflate": lambda: _zlib_pieces(-15),
    "br": _brotli_pieces,
    "zstd": _zstd_pieces,
}
every_bomb = pytest.mark.parametrize("kind", BOMBS)


@cache
def bomb(kind: str) -> bytes:
    """64 KiB, as much as one read of a socket brings, of something that goes on like this."""
    data = b""
    for piece in BOMBS[kind]():
        data += piece
        if len(data) >= READ_BYTES:
            return data[:READ_BYTES]
    raise AssertionError


def steps_until(limit: int, encodings: list[str], data: bytes) -> tuple[int, int]:
    """Read until ``limit`` has come; (bytes read, the longest step)."""
    decoder = BodyDecoder(encodings, "host.example:80")
    total = longest = 0
    for step in decoder.feed(data):
        total += len(step)
        longest = max(longest, len(step))
        if total > limit:
            break
    return total, longest


@every_bomb
def test_each_step_is_of_bounded_size(kind: str) -> None:
    total, longest = steps_until(4 * LIMIT, [kind.removeprefix("raw ")], bomb(kind))
    assert total > 4 * LIMIT
    assert longest <= 2 * MAX_STEP_BYTES


@every_bomb
def test_a_reader_that_stops_has_not_paid_for_the_rest(kind: str) -> None:
    data = bomb(kind)
    tracemalloc.start()
    try:
        total, _ = steps_until(LIMIT, [kind.removeprefix("raw ")], data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert LIMIT < total <= LIMIT + 2 * MAX_STEP_BYTES
    # zstd cannot be told to stop inside what it was fed: 128 bytes of it may be 4 MiB.
    assert peak < (10 if kind == "zstd" else 1) * 1024 * 1024


def test_a_gigabyte_wrapped_twice_costs_a_reader_of_10_mib_bounded_memory() -> None:
    """A bomb inside a bomb: a few kilobytes on the wire."""
    inner = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    mebibyte = inner.compress(ZEROS) + inner.flush(zlib.Z_FULL_FLUSH)  # may stand any number of times in a row
    outer = zlib.compressobj(9, wbits=31)
    twice = outer.compress(mebibyte * (GIB // len(ZEROS)) + inner.flush()) + outer.flush()
    assert len(twice) < 16_384
    tracemalloc.start()
    try:
        total, longest = steps_until(LIMIT, ["deflate", "gzip"], twice)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert LIMIT < total <= LIMIT + MAX_STEP_BYTES
    assert longest <= MAX_STEP_BYTES
    assert peak < 2 * 1024 * 1024


@pytest.mark.parametrize("outer", ["br", "zstd"])
def test_a_zstd_bomb_in_another_layer_is_bounded_too(outer: str) -> None:
    plain = b"".join(piece for piece, _ in zip(_zstd_pieces(), range(200), strict=False))
    data = brotli.compress(plain) if outer == "br" else zstandard.compress(plain)
    total, longest = steps_until(LIMIT, ["zstd", outer], data)
    assert LIMIT < total <= LIMIT + MAX_STEP_BYTES
    assert longest <= MAX_STEP_BYTES
