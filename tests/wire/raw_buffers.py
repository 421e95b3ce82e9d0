"""FlatBuffers buffers made by hand, so that any number in them can be a lie; and what becomes of them.

0   u32      offset of the table
4   i32      the table: its vtable lies this far before it
8   u32 ...  one offset or scalar per field
    ...      whatever the fields refer to
    u16 ...  the vtable, at the end
"""

import struct
from collections.abc import Sequence

import pytest

from connector_sdk.wire import MalformedMessage, MessageType, decode_message

TABLE = 4


def raw_table(
    inline: bytes,
    slots: Sequence[int],
    tail: bytes = b"",
    *,
    root: int | None = None,
    to_vtable: int | None = None,
    vtable_bytes: int | None = None,
    table_bytes: int | None = None,
) -> bytes:
    """A buffer of one table; what is not given is true.

    Args:
        inline: the bytes of the fields, which begin at position 8.
        slots: of each field, how far from the table it lies, 0 when absent.
        tail: what follows the table, at position 8 + len(inline).
    """
    body = inline + tail
    vtable = struct.pack(
        f"<HH{len(slots)}H",
        4 + 2 * len(slots) if vtable_bytes is None else vtable_bytes,
        4 + len(inline) if table_bytes is None else table_bytes,
        *slots,
    )
    at = TABLE + 4 + len(body)
    return (
        struct.pack("<I", TABLE if root is None else root)
        + struct.pack("<i", TABLE - at if to_vtable is None else to_vtable)
        + body
        + vtable
    )


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def raw_string(text: bytes) -> bytes:
    return u32(len(text)) + text + bytes(4 - len(text) % 4)


def shared_pairs(count: int, text: bytes, pair_slots: int = 2) -> bytes:
    """A ResponseHead whose headers are ``count`` times the same pair, and key and value the same ``text``.

    From position 12: the vector (4 + 4 * count), the pair (12), the text, the pair's vtable of ``pair_slots``.
    """
    string = raw_string(text)
    pair = 12 + 4 + 4 * count
    pair_vtable = pair + 12 + len(string)
    vector = u32(count) + b"".join(u32(pair - (16 + 4 * index)) for index in range(count))
    slots = [4, 8] + [4] * (pair_slots - 2)
    tail = vector + struct.pack("<iII", pair - pair_vtable, 8, 4) + string
    tail += struct.pack(f"<HH{pair_slots}H", 4 + 2 * pair_slots, 12, *slots)
    return raw_table(u32(4), [0, 0, 4], tail)


def is_message(message_type: int, payload: bytes) -> bool:
    """True for a message, False for MalformedMessage; anything else is the failure that the tests look for."""
    try:
        decode_message(message_type, payload)
    except MalformedMessage as error:
        text = str(error)
    else:
        return True
    assert text
    assert "\n" not in text
    return False


def refused(message_type: MessageType, payload: bytes) -> str:
    """What the MalformedMessage says that decoding must raise."""
    with pytest.raises(MalformedMessage) as caught:
        decode_message(message_type, payload)
    return str(caught.value)
