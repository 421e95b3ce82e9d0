"""Frames: u32 big-endian length N = 1 + payload, u8 message type, payload (protocol.md part 1). No I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .errors import BadFrameLength, LocalProtocolError

# The SDKs of the existing runtime refuse a longer frame and lose the connection's framing over it.
MAX_FRAME_BYTES = 10 * 1024 * 1024

_pack_header = struct.Struct(">IB").pack
_unpack_length = struct.Struct(">I").unpack_from
_LENGTH_BYTES = 4
_HEADER_BYTES = 5


class Frame(NamedTuple):
    """One frame as it came: the type byte, unchecked, and the payload."""

    message_type: int
    payload: bytes


def frame_header(message_type: int, payload_bytes: int) -> bytes:
    """What stands before a payload of so many bytes.

    Raises:
        LocalProtocolError: N would exceed MAX_FRAME_BYTES, or the type does not fit its byte.
    """
    length = 1 + payload_bytes
    if length > MAX_FRAME_BYTES:
        raise LocalProtocolError(f"a frame of {length} bytes exceeds the limit of {MAX_FRAME_BYTES}")
    if not 0 <= message_type <= 255:
        raise LocalProtocolError(f"message type {message_type} does not fit one byte")
    return _pack_header(length, message_type)


class FrameDecoder:
    """Turns a byte stream, cut anywhere, into frames.

    Holds at most one frame of ``max_frame_bytes`` beside what was fed last: the length is judged
    as soon as its four bytes are there, before anything is kept for it.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        # What was fed, as it is: a read holds whole frames as a rule, and payloads are cut out of it. Only the rest
        # of a read is copied, into a bytearray that can grow, which is all there is until that is used up.
        self._buffer: bytes | bytearray = b""
        self._consumed = 0

    def receive_data(self, data: bytes) -> None:
        """Take bytes that arrived."""
        if not self._buffer:
            self._buffer = data
            return
        if isinstance(self._buffer, bytearray):
            del self._buffer[: self._consumed]
        else:
            self._buffer = bytearray(memoryview(self._buffer)[self._consumed :])
        self._consumed = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed.

        Raises:
            BadFrameLength: length 0, or above the limit; every later call raises it again.
        """
        buffer, at = self._buffer, self._consumed
        if not buffer:
            return None
        size = len(buffer)
        if size - at < _LENGTH_BYTES:
            return None
        (length,) = _unpack_length(buffer, at)
        if not 0 < length <= self._max_frame_bytes:
            raise self._bad_length(length)
        end = at + _LENGTH_BYTES + length
        if end > size:
            return None
        message_type = buffer[at + _LENGTH_BYTES]
        if isinstance(buffer, bytes):
            payload = buffer[at + _HEADER_BYTES : end]
        else:
            with memoryview(buffer) as view:
                payload = bytes(view[at + _HEADER_BYTES : end])
        if end == size:
            self._buffer, self._consumed = b"", 0  # an idle connection holds nothing of its last read
        else:
            self._consumed = end
        return Frame(message_type, payload)

    def _bad_length(self, length: int) -> BadFrameLength:
        if length == 0:
            return BadFrameLength("frame length 0: a frame has at least its type byte")
        return BadFrameLength(f"frame length {length} exceeds the limit of {self._max_frame_bytes} bytes")

    @property
    def pending_bytes(self) -> int:
        """How much of a frame that is not complete yet is held."""
        return len(self._buffer) - self._consumed

    @property
    def is_mid_frame(self) -> bool:
        """True when the peer has begun a frame and not ended it."""
        return self.pending_bytes > 0
