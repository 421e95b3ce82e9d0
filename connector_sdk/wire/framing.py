"""Frames: u32 big-endian length N = 1 + payload, u8 message type, payload (protocol.md part 1). No I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .errors import BadFrameLength, LocalProtocolError

# The SDKs of the existing runtime refuse a longer frame and lose the connection's framing over it.
MAX_FRAME_BYTES = 10 * 1024 * 1024

_HEADER = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")


class Frame(NamedTuple):
    """One frame as it came: the type byte, unchecked, and the payload."""

    message_type: int
    payload: bytes


def encode_frame(message_type: int, payload: bytes) -> bytes:
    """The frame's bytes.

    Raises:
        LocalProtocolError: N would exceed MAX_FRAME_BYTES, or the type does not fit its byte.
    """
    length = 1 + len(payload)
    if length > MAX_FRAME_BYTES:
        raise LocalProtocolError(f"a frame of {length} bytes exceeds the limit of {MAX_FRAME_BYTES}")
    if not 0 <= message_type <= 255:
        raise LocalProtocolError(f"message type {message_type} does not fit one byte")
    return _HEADER.pack(length, message_type) + payload


class FrameDecoder:
    """Turns a byte stream, cut anywhere, into frames.

    Holds at most one frame of ``max_frame_bytes`` beside what was fed last: the length is judged
    as soon as its four bytes are there, before anything is kept for it.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._consumed = 0

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived."""
        if self._consumed:
            del self._buffer[: self._consumed]
            self._consumed = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed.

        Raises:
            BadFrameLength: length 0, or above the limit; every later call raises it again.
        """
        available = len(self._buffer) - self._consumed
        if available < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._consumed)
        if length == 0:
            raise BadFrameLength("frame length 0: a frame has at least its type byte")
        if length > self._max_frame_bytes:
            raise BadFrameLength(f"frame length {length} exceeds the limit of {self._max_frame_bytes} bytes")
        if available < _LENGTH.size + length:
            return None
        start = self._consumed + _HEADER.size
        end = self._consumed + _LENGTH.size + length
        with memoryview(self._buffer) as view:
            payload = bytes(view[start:end])
        message_type = self._buffer[start - 1]
        self._consumed = end
        return Frame(message_type, payload)

    @property
    def pending_bytes(self) -> int:
        """How much of a frame that is not complete yet is held."""
        return len(self._buffer) - self._consumed

    @property
    def is_mid_frame(self) -> bool:
        """True when the peer has begun a frame and not ended it."""
        return self.pending_bytes > 0
