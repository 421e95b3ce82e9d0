"""Undoing Content-Encoding as the body arrives: gzip, deflate, br and zstd (RFC 9110, section 8.4).

A compressed body may expand a thousandfold, so no step yields more than about MAX_STEP_BYTES: whoever reads can stop
in time, and a bomb costs its sender more than us. How much is too much is the reader's to say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import zstandard

from vastar_runtime.errors import UpstreamError

MAX_STEP_BYTES = 65_536
# Encodings may be stacked; no server stacks more, and each layer multiplies what a byte can become.
MAX_LAYERS = 3
# A zstd frame may ask for a window of gigabytes; 8 MiB is what RFC 8878, section 3.1.1.1.2 has every decoder support.
MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# zstandard cannot bound one step's output. A block of 4 bytes may become 128 KiB, so little is fed at a time.
_ZSTD_FEED_BYTES = 128


class Decoder(Protocol):
    """One layer of encoding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` adds to the body. Raises ValueError when it is not of this encoding."""

    def finish(self) -> None:
        """The body has ended. Raises ValueError when it is cut short."""


class BodyDecoder:
    """All layers of one response's Content-Encoding.

    Args:
        encodings: in the order in which they were applied, as the header lists them.
        name: whose response it is, "host:port" as errors name it.
    """

    def __init__(self, encodings: list[str], name: str) -> None:
        self._name = name
        self._layers = [(name, _DECODERS[name]()) for name in reversed(encodings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode the next piece; yields steps of bounded size, some of them empty.

        Raises:
            UpstreamError: the data is not what Content-Encoding says.
        """
        return self._through(0, data)

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        if index == len(self._layers):
            yield data
            return
        name, layer = self._layers[index]
        steps = layer.feed(data)
        while True:
            try:
                step = next(steps)
            except StopIteration:
                return
            except ValueError as error:
                raise UpstreamError(f"the response body from {self._name} is not valid {name}: {error}") from error
            if index + 1 < len(self._layers):
                yield b""  # nothing need ever come of this step: a place where the reader can let others run
            yield from self._through(index + 1, step)

    def finish(self) -> None:
        """Raises UpstreamError when the body ended inside compressed data."""
        for name, layer in self._layers:
            try:
                layer.finish()
            except ValueError as error:
                raise UpstreamError(f"the {name} response body from {self._name} was cut short: {error}") from error


def encodings_to_undo(content_encoding: str) -> list[str] | None:
    """The encodings of a Content-Encoding header, or None when the body is to be left as it is: no encoding, or
    one that is not known here."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name and name != "identity"]
    if not names or len(names) > MAX_LAYERS or any(name not in _DECODERS for name in names):
        return None
    return names


class _Zlib:
    """gzip and deflate. A gzip body may have several members (RFC 1952, section 2.2); other bytes after the end are
    padding, which all clients ignore."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._zlib = zlib.decompressobj(window_bits)
        self._start = b""  # of a deflate body whose form is not known yet
        self._begun = False
        self._has_padding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._window_bits == _DEFLATE and not self._begun:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return
            if not _is_zlib_header(data):
                self._window_bits = -zlib.MAX_WBITS
                self._zlib = zlib.decompressobj(self._window_bits)
        self._begun = True
        has_more = False  # zlib may have taken all of its input, and hold output back
        while (data or has_more) and not self._has_padding:
            if self._zlib.eof:
                if self._window_bits != _GZIP or not data.startswith(b"\x1f"):
                    self._has_padding = True
                    return
                self._zlib = zlib.decompressobj(self._window_bits)
            try:
                step = self._zlib.decompress(data, MAX_STEP_BYTES)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            has_more = len(step) == MAX_STEP_BYTES and not self._zlib.eof
            data = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            if step:
                yield step

    def finish(self) -> None:
        if (self._begun or self._start) and not self._zlib.eof:
            raise ValueError("the data ends before its end mark")


def _is_zlib_header(data: bytes) -> bool:
    """Method 8 and the header's check (RFC 1950, section 2.2). Many servers send deflate without header under this
    name (RFC 9110, section 8.4.1.2, note)."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        if data and self._brotli.is_finished():
            raise ValueError("data after its end mark")
        while not self._brotli.is_finished():
            try:
                step = self._brotli.process(data, output_buffer_limit=MAX_STEP_BYTES)
            except brotli.error as error:
                raise ValueError(str(error)) from error
            data = b""
            if step:
                yield step
            # It may have taken all of its input, and hold output back.
            if len(step) < MAX_STEP_BYTES and self._brotli.can_accept_more_data():
                return

    def finish(self) -> None:
        if self._begun and not self._brotli.is_finished():
            raise ValueError("the data ends before its end mark")


class _Zstd:
    def __init__(self) -> None:
        self._new = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES).decompressobj
        self._zstd = self._new()
        self._in_frame = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._zstd.eof:
                self._zstd = self._new()
            piece = data[at : at + _ZSTD_FEED_BYTES]
            at += len(piece)
            try:
                step = self._zstd.decompress(piece)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
            self._in_frame = not self._zstd.eof
            at -= len(self._zstd.unused_data)
            for start in range(0, len(step), MAX_STEP_BYTES):
                yield step[start : start + MAX_STEP_BYTES]

    def finish(self) -> None:
        if self._in_frame:
            raise ValueError("the data ends before its end mark")


_GZIP = 16 + zlib.MAX_WBITS
_DEFLATE = zlib.MAX_WBITS
_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: _Zlib(_GZIP),
    "x-gzip": lambda: _Zlib(_GZIP),
    "deflate": lambda: _Zlib(_DEFLATE),
    "br": _Brotli,
    "zstd": _Zstd,
}
