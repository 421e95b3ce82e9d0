"""Content-Encoding undone: any encoding, cut anywhere, and every way in which it can be wrong."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.wire import ErrorClass
from vastar_runtime.errors import UpstreamError
from vastar_runtime.http.decoding import MAX_LAYERS, BodyDecoder, encodings_to_undo

TEXT = b"".join(b"line %d of a text that compresses\n" % n for n in range(2000))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "br": lambda data: brotli.compress(data, quality=5),
    "zstd": zstd,
}
every_encoding = pytest.mark.parametrize("encoding", ENCODERS)


def decode(encodings: str, pieces: Iterable[bytes]) -> bytes:
    undo = encodings_to_undo(encodings.removeprefix("raw "))
    assert undo is not None
    decoder = BodyDecoder(undo, "host.example:80")
    body = b"".join(step for piece in pieces for step in decoder.feed(piece))
    decoder.finish()
    return body


def one_by_one(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


@pytest.mark.unmeasured
@every_encoding
@pytest.mark.parametrize("body", [b"", b"x", TEXT, os.urandom(200_000)], ids=["empty", "one", "text", "random"])
def test_a_body_comes_out_as_it_went_in(encoding: str, body: bytes) -> None:
    encoded = ENCODERS[encoding](body)
    assert decode(encoding, [encoded]) == body
    assert decode(encoding, one_by_one(encoded)) == body


@every_encoding
def test_no_body_at_all_is_an_empty_one(encoding: str) -> None:
    assert decode(encoding, []) == b""


@every_encoding
def test_a_piece_is_delivered_when_it_is_there(encoding: str) -> None:
    """A stream flushed after each event is not held back until its end."""
    events = [b"data: %d\n\n" % n for n in range(3)]
    if encoding == "zstd":
        compressor = zstandard.ZstdCompressor().compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        pieces = [compressor.compress(event) + compressor.flush(flush) for event in events]
    elif encoding == "br":
        brotli_compressor = brotli.Compressor()
        pieces = [brotli_compressor.process(event) + brotli_compressor.flush() for event in events]
    else:
        window = {"deflate": zlib.MAX_WBITS, "raw deflate": -zlib.MAX_WBITS}.get(encoding, 16 + zlib.MAX_WBITS)
        zlib_compressor = zlib.compressobj(wbits=window)
        pieces = [zlib_compressor.compress(event) + zlib_compressor.flush(zlib.Z_SYNC_FLUSH) for event in events]
    decoder = BodyDecoder([encoding.removeprefix("raw ")], "host.example:80")
    for piece, event in zip(pieces, events, strict=True):
        assert b"".join(decoder.feed(piece)) == event


@every_encoding
def test_every_size_around_a_step_comes_out_whole(encoding: str) -> None:
    """Where a step ends just before the body does, what is left hides inside the decompressor."""
    for size in [*range(65_300, 65_800), *range(130_900, 131_500, 7)]:
        assert len(decode(encoding, [ENCODERS[encoding](bytes(size))])) == size


@every_encoding
def test_a_truncated_body_is_told_from_a_whole_one(encoding: str) -> None:
    encoded = ENCODERS[encoding](b"a short body")
    for cut in range(1, len(encoded)):
        with pytest.raises(UpstreamError) as caught:
            decode(encoding, [encoded[:cut]])
        assert caught.value.error_class is ErrorClass.TRANSIENT
        name = encoding.removeprefix("raw ")
        assert caught.value.message == (
            f"HTTP request failed: the {name} response body from host.example:80 was cut short: "
            "the data ends before its end mark"
        )


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_of_its_encoding_is_an_error_that_names_it(encoding: str) -> None:
    for garbage in (b"<html>plain text, mislabelled</html>", b"\xff" * 50):
        for pieces in ([garbage], one_by_one(garbage)):
            with pytest.raises(
                UpstreamError, match=f"the response body from host.example:80 is not valid {encoding}: "
            ):
                decode(encoding, pieces)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_flipped_bit_in_the_middle_is_found(encoding: str) -> None:
    encoder = ENCODERS[encoding]
    if encoding == "zstd":
        encoder = zstandard.ZstdCompressor(write_checksum=True).compress
    encoded = bytearray(encoder(TEXT))
    encoded[len(encoded) // 2] ^= 0x10
    with pytest.raises(UpstreamError):
        decode(encoding, [bytes(encoded)])


@pytest.mark.parametrize("encode", [gzip.compress, zstd])
def test_several_members_are_one_body(encode) -> None:
    encoding = "gzip" if encode is gzip.compress else "zstd"
    members = encode(b"one ") + encode(b"") + encode(b"two ") + encode(TEXT)
    assert decode(encoding, [members]) == b"one two " + TEXT
    assert decode(encoding, one_by_one(members)) == b"one two " + TEXT
    with pytest.raises(UpstreamError, match="cut short"):
        decode(encoding, [members[:-1]])


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 1000, b"padding \x1f\x8b of any kind"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
def test_padding_after_the_end_is_ignored_however_it_is_cut(encoding: str, padding: bytes) -> None:
    encoded = ENCODERS[encoding](TEXT) + padding
    assert decode(encoding, [encoded]) == TEXT
    assert decode(encoding, one_by_one(encoded)) == TEXT


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_garbage_after_the_end_is_an_error_however_it_is_cut(encoding: str) -> None:
    encoded = ENCODERS[encoding](TEXT) + b"garbage"
    for pieces in ([encoded], one_by_one(encoded)):
        with pytest.raises(UpstreamError, match=f"not valid {encoding}"):
            decode(encoding, pieces)


def test_a_zstd_frame_that_asks_for_a_window_of_a_gigabyte_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # size unknown: window is sent
    with pytest.raises(UpstreamError, match=r"not valid zstd: .*too much memory"):
        decode("zstd", [compressor.compress(TEXT) + compressor.flush()])


def test_encodings_may_be_stacked() -> None:
    assert decode("gzip, br", [brotli.compress(gzip.compress(TEXT))]) == TEXT
    stacked = zstd(zlib.compress(gzip.compress(TEXT)))
    assert decode("gzip,deflate , ZSTD", one_by_one(stacked)) == TEXT


def test_an_error_in_a_stack_names_the_layer() -> None:
    with pytest.raises(UpstreamError, match="not valid gzip"):
        decode("gzip, br", [brotli.compress(b"not gzip")])
    with pytest.raises(UpstreamError, match=r"the gzip response body from host\.example:80 was cut short"):
        decode("gzip, br", [brotli.compress(gzip.compress(TEXT)[:-9])])


@pytest.mark.parametrize(
    ("header", "undo"),
    [
        ("", None),
        ("identity", None),
        ("Identity, identity", None),
        (" , ", None),
        ("gzip", ["gzip"]),
        ("GZip", ["gzip"]),
        ("gzip, identity", ["gzip"]),
        (", deflate,,br ,", ["deflate", "br"]),
        ("compress", None),
        ("gzip, aws-chunked", None),
        ("gzip;q=1", None),
        (", ".join(["gzip"] * MAX_LAYERS), ["gzip"] * MAX_LAYERS),
        (", ".join(["gzip"] * (MAX_LAYERS + 1)), None),
    ],
)
def test_an_encoding_that_is_unknown_or_too_deep_leaves_the_body_alone(header: str, undo: list[str] | None) -> None:
    assert encodings_to_undo(header) == undo


@given(st.sampled_from(["gzip", "deflate", "br", "zstd"]), st.binary(max_size=200), st.integers(0, 200))
def test_random_bytes_give_a_body_or_an_upstream_error_whole_or_cut(encoding: str, data: bytes, cut: int) -> None:
    def outcome(pieces: list[bytes]) -> bytes | None:
        try:
            return decode(encoding, pieces)
        except UpstreamError:
            return None

    assert outcome([data]) == outcome([data[:cut], data[cut:]])
