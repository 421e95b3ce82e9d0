"""FlatBuffers tables to and from frozen message classes, over ``struct``, checking every step.

The ``flatbuffers`` package has no verifier for Python and trusts the offsets it is given; this reads bytes from
strangers. It is also an order of magnitude faster than generated accessors. The generated code (``_generated``)
stays the oracle: tests hold both against each other in both directions.

A message class lists its fields in slot order, each annotated with one of the types of ``fields``; the names and
slots are those of ``schemas/connector_ipc.fbs``, which a test compares.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import LocalProtocolError
from .fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES, Field, KeyValues, fields_of
from .table_reading import TableReader

_U32 = struct.Struct("<I")
_KEY_VALUE_VTABLE = struct.pack("<HHHH", 8, 12, 4, 8)
_KEY_VALUE = struct.Struct("<iII")


class _Layout(NamedTuple):
    """Where the fields of one combination of present fields lie, all before the referred-to data."""

    head: bytes  # root offset, vtable, padding
    table: struct.Struct
    order: tuple[int, ...]  # indices of the present fields, in the order of `table`
    positions: tuple[int, ...]  # absolute position of each of them


class TableCodec:
    """Encodes and decodes one message class.

    Args:
        message_class: a frozen msgspec Struct; see the module.
    """

    def __init__(self, message_class: type[Any]) -> None:
        self._message_class = message_class
        self.fields = tuple(fields_of(message_class))
        self._layouts: dict[tuple[int, ...], _Layout] = {}
        self._reader = TableReader(self.fields)

    def decode(self, data: bytes) -> Any:
        """The message in ``data``.

        Raises:
            MalformedMessage: any offset, length or vector that does not lie within ``data``, a required field
                that is missing, a string that is not UTF-8, an enum value that does not exist.
        """
        return self._message_class(**self._reader.read(data))

    def encode(self, message: Any) -> bytes:
        """The table's bytes, as a whole FlatBuffers buffer.

        Raises:
            LocalProtocolError: a value that its field cannot hold.
        """
        present = []
        values = []
        for index, field in enumerate(self.fields):
            value = getattr(message, field.name)
            values.append(value)
            if field.required or value != field.default:
                present.append(index)
        key = tuple(present)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = _lay_out(self.fields, key)
        try:
            return _write(self.fields, layout, values)
        except (struct.error, ValueError, TypeError, AttributeError) as error:
            name = self._message_class.__name__
            raise LocalProtocolError(f"{name} cannot be encoded: {error}") from error


# --- writing ---


def _lay_out(fields: tuple[Field, ...], present: tuple[int, ...]) -> _Layout:
    """Root offset, then the vtable, then the table with its widest fields first, so that no field needs padding
    but the first: FlatBuffers aligns every scalar to its own size."""

    def width(index: int) -> int:
        kind = fields[index].kind
        return struct.calcsize("<" + kind) if len(kind) == 1 else 4

    order = sorted(present, key=lambda index: (-width(index), index))
    slot_count = present[-1] + 1 if present else 0
    vtable_bytes = 4 + 2 * slot_count
    table = 4 + vtable_bytes
    # The table starts with a 4-byte offset to its vtable; what follows it must be aligned to the widest field.
    align = max((width(index) for index in order), default=4)
    table += -(table + 4) % max(align, 4)
    slots = [0] * slot_count
    code = "<i"
    at = 4
    for index in order:
        slots[index] = at
        kind = fields[index].kind
        code += kind if len(kind) == 1 else "I"
        at += width(index)
    padding = -(table + at) % 4
    head = _U32.pack(table) + struct.pack(f"<HH{slot_count}H", vtable_bytes, at, *slots)
    head = head.ljust(table, b"\0")
    return _Layout(head, struct.Struct(f"{code}{padding}x"), tuple(order), tuple(table + slots[i] for i in order))


def _write(fields: tuple[Field, ...], layout: _Layout, values: list[Any]) -> bytes:
    at = len(layout.head) + layout.table.size
    inline: list[int] = [len(layout.head) - 4]  # the vtable begins right after the root offset
    pieces = [layout.head, b""]
    for index, position in zip(layout.order, layout.positions, strict=True):
        kind, enum_class = fields[index].kind, fields[index].enum_class
        value = values[index] if enum_class is None else enum_class(values[index])
        write = _WRITERS.get(kind)
        if write is None:
            inline.append(value)
        else:
            # An offset counts from the place where it stands; writers say where in their piece the vector begins.
            lead, piece = write(value)
            inline.append(at + lead - position)
            pieces.append(piece)
            at += len(piece)
    pieces[1] = layout.table.pack(*inline)
    return b"".join(pieces)


def _write_bytes(value: bytes) -> tuple[int, bytes]:
    return 0, b"".join((_U32.pack(len(value)), value, bytes(-len(value) % 4)))


def _write_string(value: str) -> tuple[int, bytes]:
    return 0, _string_piece(value.encode())


def _string_piece(text: bytes) -> bytes:
    # FlatBuffers strings end in a NUL that their length does not count.
    return b"".join((_U32.pack(len(text)), text, bytes(4 - len(text) % 4)))


def _write_key_values(pairs: KeyValues) -> tuple[int, bytes]:
    """The vtable that all pairs share, the vector of offsets, the tables, then the strings.

    Refuses what ``_key_values`` would refuse at the other end.
    """
    if len(pairs) > MAX_KEY_VALUES:
        raise ValueError(f"{len(pairs)} key-value pairs exceed the limit of {MAX_KEY_VALUES}")
    lead = len(_KEY_VALUE_VTABLE)
    tables = lead + 4 + 4 * len(pairs)
    at = tables + _KEY_VALUE.size * len(pairs)
    offsets = bytearray(_U32.pack(len(pairs)))
    rows = bytearray()
    strings = []
    total_bytes = 0
    for index, (key, value) in enumerate(pairs):
        table = tables + _KEY_VALUE.size * index
        offsets += _U32.pack(table - (lead + 4 + 4 * index))
        key_text, value_text = key.encode(), value.encode()
        total_bytes += len(key_text) + len(value_text)
        if total_bytes > MAX_KEY_VALUE_BYTES:
            raise ValueError(f"key-value pairs of more than {MAX_KEY_VALUE_BYTES} bytes of text")
        key_piece, value_piece = _string_piece(key_text), _string_piece(value_text)
        rows += _KEY_VALUE.pack(table, at - (table + 4), at + len(key_piece) - (table + 8))
        at += len(key_piece) + len(value_piece)
        strings += [key_piece, value_piece]
    return lead, b"".join((_KEY_VALUE_VTABLE, offsets, rows, *strings))


_WRITERS: dict[str, Callable[[Any], tuple[int, bytes]]] = {
    "string": _write_string,
    "bytes": _write_bytes,
    "key_values": _write_key_values,
}
