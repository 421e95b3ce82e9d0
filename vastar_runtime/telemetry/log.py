"""The log: one logfmt line an event. No query values, no header values, no bodies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import structlog

# Names that clients choose are cut, so that no one can fill the disk with one request.
MAX_VALUE_CHARACTERS = 256

_render = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
_NEEDS_QUOTES = re.compile(r'[\s="\\]')

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What an error quotes, it quotes as repr() does. An apostrophe inside a word opens no quotation.
_QUOTATION = re.compile(r"""(?<!\w)b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


class Writer(Protocol):
    """What a log needs: it takes lines and never waits, nor fails."""

    def write_later(self, line: object, /) -> object:
        """Take a line, and ask for its ``str`` when it is about to be written."""


def configure(writer: Writer) -> None:
    """Write the log with this writer from now on."""
    global _writer
    _writer = writer
    output = _StructlogOutput(writer)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,
    )


class Fields(Protocol):
    """A line's names and values, in their order; asked for when the line is written, perhaps in another thread."""

    def items(self) -> Iterable[tuple[str, str | int | float]]: ...


def write_request(fields: Fields) -> None:
    """The line of one request: what ``structlog.get_logger().info("request", **fields)`` would write.

    Written by hand, since a client's next request waits for it, and structlog makes it twice as
    dear where the last one was a while ago (150 µs and 70, measured between two streams on one connection).
    """
    if _writer is None:
        structlog.get_logger().info("request", **dict(fields.items()))
    else:
        _writer.write_later(_RequestLine(time.time_ns(), fields))


class _RequestLine:
    """A line that becomes text when it is written: by the log's thread, many at once."""

    __slots__ = ("_fields", "_unix_ns")

    def __init__(self, unix_ns: int, fields: Fields) -> None:
        self._unix_ns = unix_ns
        self._fields = fields

    def __str__(self) -> str:
        # As structlog's TimeStamper writes it.
        second, ns = divmod(self._unix_ns, 10**9)
        parts = [f"timestamp={_second_text(second)}.{ns // 1000:06d}Z level=info event=request"]
        for key, value in self._fields.items():
            parts.append(_pair(key, value) if type(value) is str else f"{key}={value}")
        return f"{' '.join(parts)}\n"


# Most lines have the same few methods, origins, paths and tenants. Half a MiB at most: values are short.
@lru_cache(1024)
def _pair(key: str, value: str) -> str:
    if _NEEDS_QUOTES.search(value):
        return str(_render(None, "info", {key: value}))
    return f"{key}={value}"


@lru_cache(2)
def _second_text(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


class _StructlogOutput:
    """What structlog writes its lines with."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write_later(f"{line}\n")

    info = warning = error = msg


_writer: Writer | None = None


def clean(text: str) -> str:
    """Text that a client chose, fit for a line of the log: cut, and without control characters, which could forge
    a line or drive a terminal."""
    if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable():
        return text
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_VALUE_CHARACTERS])


def without_quotations(text: str) -> str:
    """An error's message without what it quotes: a client's or an upstream's own words, which may be secret."""
    return _QUOTATION.sub("…", text)
