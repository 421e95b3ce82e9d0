"""FlatBuffers tables to and from frozen message classes, over ``struct``, checking every step.

The ``flatbuffers`` package has no verifier for Python and trusts the offsets it is given; this reads bytes from
strangers. It is also an order of magnitude faster than generated accessors. The generated code (``_generated``)
stays the oracle: tests hold both against each other in both directions.

A message class lists its fields in slot order, each annotated with one of the types of ``fields``; the names and
slots are those of ``schemas/connector_ipc.fbs``, which a test compares.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from operator import is_not
from typing import Any, NamedTuple

import msgspec

from .errors import LocalProtocolError
from .fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES, Field, KeyValues, fields_of
from .table_reading import TableReader

_astuple = msgspec.structs.astuple
_pack_u32 = struct.Struct("<I").pack
_KEY_VALUE_VTABLE = struct.pack("<HHHH", 8, 12, 4, 8)
_KEY_VALUE = struct.Struct("<iII")
# What follows a vector, and a string, of a length with these last two bits.
_PADDING = tuple(bytes(-length % 4) for length in range(4))
_NUL_AND_PADDING = tuple(bytes(4 - length) for length in range(4))


# Header blocks that were written lately, with the keys that are in them; half a MiB at most.
MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 2048
_PIECES: dict[KeyValues, bytes] = {}


class _Layout(NamedTuple):
    """Where the fields of one combination of present fields lie, all before the referred-to data."""

    head: bytes  # root offset, vtable, padding, and the table's reference to its vtable
    pack: Callable[..., bytes]  # the rest of the table
    size: int  # of both
    order: tuple[int, ...]  # indices of the present fields, in the order of `pack`
    enums: tuple[tuple[int, type[enum.IntEnum]], ...]  # place in that order
    references: tuple[tuple[int, int, str], ...]  # place in that order, absolute position, kind


class TableCodec:
    """Encodes and decodes one message class.

    Args:
        message_class: a frozen msgspec Struct; see the module.
    """

    def __init__(self, message_class: type[Any]) -> None:
        self._message_class = message_class
        self.fields = tuple(fields_of(message_class))
        # A required field equals its default never, and so is always written.
        self._defaults = tuple(_NEVER if field.required else field.default for field in self.fields)
        self._layouts: dict[tuple[bool, ...], _Layout] = {}
        self._read = TableReader(self.fields).read

    def decode(self, data: bytes) -> Any:
        """The message in ``data``.

        Raises:
            MalformedMessage: any offset, length or vector that does not lie within ``data``, a required field
                that is missing, a string that is not UTF-8, an enum value that does not exist.
        """
        return self._message_class(**self._read(data))

    def encode(self, message: Any) -> bytes:
        """The table's bytes, as a whole FlatBuffers buffer.

        Raises:
            LocalProtocolError: a value that its field cannot hold.
        """
        return b"".join(self.encode_pieces(message)[0])

    def encode_pieces(self, message: Any) -> tuple[list[bytes | memoryview], int]:
        """What ``encode`` joins, and how many bytes that is: who has something to put in front joins once.

        Raises:
            LocalProtocolError: a value that its field cannot hold.
        """
        values = _astuple(message)
        # By identity: None, members of enums and small integers are what they are. A default that is another object
        # is written out, which means the same.
        present = tuple(map(is_not, values, self._defaults))
        layout = self._layouts.get(present)
        if layout is None:
            layout = self._layouts[present] = _lay_out(self.fields, present)
        try:
            return _write(layout, values)
        except (struct.error, ValueError, TypeError, AttributeError) as error:
            name = self._message_class.__name__
            raise LocalProtocolError(f"{name} cannot be encoded: {error}") from error


_NEVER = object()


def _lay_out(fields: tuple[Field, ...], present: tuple[bool, ...]) -> _Layout:
    """Root offset, then the vtable, then the table with its widest fields first, so that no field needs padding
    but the first: FlatBuffers aligns every scalar to its own size."""
    indices = [index for index, is_present in enumerate(present) if is_present]
    width = {index: struct.calcsize("<" + fields[index].code) for index in indices}
    order = sorted(indices, key=lambda index: (-width[index], index))
    slot_count = indices[-1] + 1 if indices else 0
    vtable_bytes = 4 + 2 * slot_count
    table = 4 + vtable_bytes
    # The table starts with a 4-byte offset to its vtable; what follows it must be aligned to the widest field.
    table += -(table + 4) % max(4, *width.values(), 4)
    slots = [0] * slot_count
    at = 4
    for index in order:
        slots[index] = at
        at += width[index]
    head = _pack_u32(table) + struct.pack(f"<HH{slot_count}H", vtable_bytes, at, *slots)
    head = head.ljust(table, b"\0") + _pack_u32(table - 4)  # the vtable begins right after the root offset
    codes = "".join(fields[index].code for index in order)
    pack = struct.Struct(f"<{codes}{-(table + at) % 4}x")
    places = tuple((place, fields[index]) for place, index in enumerate(order))
    return _Layout(
        head,
        pack.pack,
        len(head) + pack.size,
        tuple(order),
        tuple((place, field.enum_class) for place, field in places if field.enum_class),
        tuple((place, table + slots[order[place]], field.kind) for place, field in places if field.is_reference),
    )


def _write(layout: _Layout, values: tuple[Any, ...]) -> tuple[list[bytes | memoryview], int]:
    head, pack, at, order, enums, references = layout
    inline = [values[index] for index in order]
    for place, enum_class in enums:
        if type(inline[place]) is not enum_class:
            inline[place] = enum_class(inline[place])
    pieces: list[bytes | memoryview] = [head, b""]
    for place, position, kind in references:
        value = inline[place]
        # An offset counts from the place where it stands.
        inline[place] = at - position
        if kind == "key_values":
            inline[place] += len(_KEY_VALUE_VTABLE)  # it comes first in the piece
            piece = _remembered_piece(value)
            pieces.append(piece)
            at += len(piece)
            continue
        if kind == "string":
            value = value.encode()
            padding = _NUL_AND_PADDING[len(value) & 3]
        else:
            if type(value) is not bytes:
                value = memoryview(value).cast("B")
            padding = _PADDING[len(value) & 3]
        size = len(value)
        pieces += (_pack_u32(size), value, padding)
        at += 4 + size + len(padding)
    pieces[1] = pack(*inline)
    return pieces, at


def _string_piece(text: bytes) -> bytes:
    # FlatBuffers strings end in a NUL that their length does not count.
    return b"".join((_pack_u32(len(text)), text, _NUL_AND_PADDING[len(text) & 3]))


def _remembered_piece(pairs: KeyValues) -> bytes:
    """As ``_key_values_piece``: applications send most of their requests with the same headers."""
    if type(pairs) is not tuple:
        return _key_values_piece(pairs)
    piece = _PIECES.get(pairs)
    if piece is None:
        piece = _key_values_piece(pairs)
        if len(piece) <= MAX_REMEMBERED_BYTES:
            if len(_PIECES) >= MAX_REMEMBERED:
                del _PIECES[next(iter(_PIECES))]
            _PIECES[pairs] = piece
    return piece


def _key_values_piece(pairs: KeyValues) -> bytes:
    """The vtable that all pairs share, the vector of offsets, the tables, then the strings.

    Refuses what ``_key_values`` would refuse at the other end.
    """
    if len(pairs) > MAX_KEY_VALUES:
        raise ValueError(f"{len(pairs)} key-value pairs exceed the limit of {MAX_KEY_VALUES}")
    count = len(pairs)
    vector = len(_KEY_VALUE_VTABLE) + 4
    tables = vector + 4 * count
    at = tables + _KEY_VALUE.size * count
    # Offsets grow by what a table is longer than an offset.
    numbers = [count, *range(4 * count, 4 * count + 8 * count, 8)]
    strings: list[bytes] = []
    total_bytes = 0
    for table, (key, value) in zip(range(tables, at, _KEY_VALUE.size), pairs, strict=True):
        key_text, value_text = key.encode(), value.encode()
        total_bytes += len(key_text) + len(value_text)
        if total_bytes > MAX_KEY_VALUE_BYTES:
            raise ValueError(f"key-value pairs of more than {MAX_KEY_VALUE_BYTES} bytes of text")
        key_piece, value_piece = _string_piece(key_text), _string_piece(value_text)
        numbers += (table, at - (table + 4), at + len(key_piece) - (table + 8))
        at += len(key_piece) + len(value_piece)
        strings += (key_piece, value_piece)
    return b"".join((_KEY_VALUE_VTABLE, struct.pack(f"<{len(numbers)}I", *numbers), *strings))
