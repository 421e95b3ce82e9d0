"""FlatBuffers tables to and from frozen message classes, over ``struct``, checking every step.

The ``flatbuffers`` package has no verifier for Python and trusts the offsets it is given; this reads bytes from
strangers. It is also an order of magnitude faster than generated accessors. The generated code (``_generated``)
stays the oracle: tests hold both against each other in both directions.

A message class lists its fields in slot order, each annotated with one of the field types below; the names and
slots are those of ``schemas/connector_ipc.fbs``, which a test compares.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from .errors import LocalProtocolError, MalformedMessage

U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
I32 = Annotated[int, "i"]
KeyValues = tuple[tuple[str, str], ...]

# One table can refer to the same string from every element of a vector, so that a small frame decodes into a
# large message. No honest header block is near either limit (servers refuse far smaller ones).
MAX_KEY_VALUES = 4096
MAX_KEY_VALUE_BYTES = 1024 * 1024

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_HH = struct.Struct("<HH")
_KEY_VALUE_VTABLE = struct.pack("<HHHH", 8, 12, 4, 8)
_KEY_VALUE = struct.Struct("<iII")

# Each SDK has a vtable or two for a message; strangers may send others without end.
MAX_PLANS = 64

M = TypeVar("M", bound=msgspec.Struct)


class _Field(NamedTuple):
    name: str
    kind: str  # a struct code, or "string", "bytes", "key_values"
    default: Any
    required: bool
    enum_class: type[enum.IntEnum] | None


class _Layout(NamedTuple):
    """Where the fields of one combination of present fields lie, all before the referred-to data."""

    head: bytes  # root offset, vtable, padding
    table: struct.Struct
    order: tuple[int, ...]  # indices of the present fields, in the order of `table`
    positions: tuple[int, ...]  # absolute position of each of them


class _Plan(NamedTuple):
    """All fields of a table in one step; for a table whose vtable has been checked."""

    table: struct.Struct
    fields: tuple[tuple[int, _Field], ...]  # position in the table, in the order of `table`

    def read(self, data: bytes, table: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for value, (slot, field) in zip(self.table.unpack_from(data, table), self.fields, strict=True):
            kind = field.kind
            if kind == "string" or kind == "bytes":
                start = table + slot + value + 4
                if start > len(data):
                    raise MalformedMessage(f"{field.name}: offset to {start - 4} in a buffer of {len(data)} bytes")
                end = start + _U32.unpack_from(data, start - 4)[0]
                if end > len(data):
                    raise MalformedMessage(
                        f"{field.name}: a vector of {end - start} elements in a buffer of {len(data)} bytes"
                    )
                if kind == "bytes":
                    values[field.name] = data[start:end]
                    continue
                try:
                    values[field.name] = data[start:end].decode()
                except UnicodeDecodeError as error:
                    raise MalformedMessage(f"{field.name} is not UTF-8") from error
            elif kind == "key_values" or field.enum_class is not None:
                values[field.name] = _read_field(data, table, slot, field)
            else:
                values[field.name] = value
        return values


class TableCodec:
    """Encodes and decodes one message class.

    Args:
        message_class: a frozen msgspec Struct; see the module.
    """

    def __init__(self, message_class: type[Any]) -> None:
        self._message_class = message_class
        self.fields = tuple(_fields_of(message_class))
        self._layouts: dict[tuple[int, ...], _Layout] = {}
        self._plans: dict[bytes, _Plan | None] = {}

    def decode(self, data: bytes) -> Any:
        """The message in ``data``.

        Raises:
            MalformedMessage: any offset, length or vector that does not lie within ``data``, a required field
                that is missing, a string that is not UTF-8, an enum value that does not exist.
        """
        table = _offset(data, 0, "root")
        plan = self._plan(data, table)
        if plan is not None:
            return self._message_class(**plan.read(data, table))
        slots, table = _open_table(data, table, len(self.fields))
        values: dict[str, Any] = {}
        for index, field in enumerate(self.fields):
            slot = slots[index] if index < len(slots) else 0
            if slot:
                values[field.name] = _read_field(data, table, slot, field)
            elif field.required:
                raise MalformedMessage(f"required field {field.name} is missing")
        return self._message_class(**values)

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

    def _plan(self, data: bytes, table: int) -> _Plan | None:
        """How to read tables with this vtable, if it is of the usual kind; those of one client are all alike."""
        vtable = table - _I32.unpack_from(data, table)[0]
        if vtable < 0 or vtable + 4 > len(data):
            return None
        vtable_size, table_size = _HH.unpack_from(data, vtable)
        if table + table_size > len(data) or vtable + vtable_size > len(data):
            return None
        key = data[vtable : vtable + min(vtable_size, 4 + 2 * len(self.fields))]
        try:
            return self._plans[key]
        except KeyError:
            if len(self._plans) >= MAX_PLANS:
                return None
        slots, _ = _open_table(data, table, len(self.fields))
        plan = self._plans[key] = _plan_for(self.fields, slots, table_size)
        return plan


def _fields_of(message_class: type[Any]) -> list[_Field]:
    hints = get_type_hints(message_class, include_extras=True)
    fields = []
    for info in msgspec.structs.fields(message_class):
        hint = hints[info.name]
        if get_origin(hint) is Annotated:
            kind, enum_class = hint.__metadata__[0], None
        elif isinstance(hint, type) and issubclass(hint, enum.IntEnum):
            kind, enum_class = "b", hint
        else:
            optional = [arg for arg in get_args(hint) if arg is not type(None)]
            if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
                hint = optional[0]
            kind, enum_class = {bool: "?", str: "string", bytes: "bytes", KeyValues: "key_values"}[hint], None
        fields.append(_Field(info.name, kind, info.default, info.required, enum_class))
    return fields


# --- reading ---


def _offset(data: bytes, position: int, what: str) -> int:
    """Follow the unsigned offset at ``position``."""
    if position < 0 or position + 4 > len(data):
        raise MalformedMessage(f"{what}: an offset outside the buffer of {len(data)} bytes")
    target: int = position + _U32.unpack_from(data, position)[0]
    if target + 4 > len(data):
        raise MalformedMessage(f"{what}: offset to {target} in a buffer of {len(data)} bytes")
    return target


def _open_table(data: bytes, table: int, known_fields: int) -> tuple[tuple[int, ...], int]:
    """The slots of the table at ``table``, each 0 or within the table; at most ``known_fields`` of them.

    Slots after those are not looked at: 4,096 tables of a small frame can share one vtable of 32,765 slots.
    """
    vtable = table - _I32.unpack_from(data, table)[0]
    if vtable < 0 or vtable + 4 > len(data):
        raise MalformedMessage(f"vtable at {vtable} in a buffer of {len(data)} bytes")
    vtable_size, table_size = _HH.unpack_from(data, vtable)
    if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > len(data):
        raise MalformedMessage(f"vtable of {vtable_size} bytes in a buffer of {len(data)} bytes")
    if table_size < 4 or table + table_size > len(data):
        raise MalformedMessage(f"table of {table_size} bytes in a buffer of {len(data)} bytes")
    slots = struct.unpack_from(f"<{min((vtable_size - 4) // 2, known_fields)}H", data, vtable + 4)
    for slot in slots:
        if slot and not 4 <= slot < table_size:
            raise MalformedMessage(f"field at {slot} in a table of {table_size} bytes")
    return slots, table


def _read_field(data: bytes, table: int, slot: int, field: _Field) -> Any:
    position = table + slot
    if field.kind == "string":
        return _string(data, position, field.name)
    if field.kind == "bytes":
        start, size = _vector(data, position, 1, field.name)
        return data[start : start + size]
    if field.kind == "key_values":
        return _key_values(data, position, field.name)
    try:
        value = struct.unpack_from("<" + field.kind, data, position)[0]
    except struct.error as error:
        raise MalformedMessage(f"{field.name} lies outside the buffer") from error
    if field.enum_class is not None:
        try:
            return field.enum_class(value)
        except ValueError as error:
            raise MalformedMessage(f"{field.name} has no value {value}") from error
    return value


def _plan_for(fields: tuple[_Field, ...], slots: tuple[int, ...], table_size: int) -> _Plan | None:
    """None where fields overlap, reach beyond the table, or are missing: such a table is read field by field."""
    if any(field.required and not (index < len(slots) and slots[index]) for index, field in enumerate(fields)):
        return None
    code, at = "<", 0
    planned = []
    for slot, field in sorted(((s, f) for s, f in zip(slots, fields, strict=False) if s), key=lambda pair: pair[0]):
        kind = field.kind if len(field.kind) == 1 else "I"
        if slot < at or slot + struct.calcsize("<" + kind) > table_size:
            return None
        code += f"{slot - at}x{kind}"
        at = slot + struct.calcsize("<" + kind)
        planned.append((slot, field))
    return _Plan(struct.Struct(code), tuple(planned))


def _vector(data: bytes, position: int, element_bytes: int, what: str) -> tuple[int, int]:
    """Start and element count of the vector that the offset at ``position`` refers to."""
    vector = _offset(data, position, what)
    (count,) = _U32.unpack_from(data, vector)
    if vector + 4 + count * element_bytes > len(data):
        raise MalformedMessage(f"{what}: a vector of {count} elements in a buffer of {len(data)} bytes")
    return vector + 4, count


def _string(data: bytes, position: int, what: str) -> str:
    start, size = _vector(data, position, 1, what)
    try:
        return data[start : start + size].decode()
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"{what} is not UTF-8") from error


def _key_values(data: bytes, position: int, what: str) -> KeyValues:
    start, count = _vector(data, position, 4, what)
    if count > MAX_KEY_VALUES:
        raise MalformedMessage(f"{what}: {count} entries exceed the limit of {MAX_KEY_VALUES}")
    pairs = []
    total_bytes = 0
    for index in range(count):
        slots, table = _open_table(data, _offset(data, start + 4 * index, what), 2)
        if len(slots) < 2 or not slots[0] or not slots[1]:
            raise MalformedMessage(f"{what}: entry {index} lacks its key or value")
        total_bytes += _vector(data, table + slots[0], 1, what)[1] + _vector(data, table + slots[1], 1, what)[1]
        if total_bytes > MAX_KEY_VALUE_BYTES:
            raise MalformedMessage(f"{what}: more than {MAX_KEY_VALUE_BYTES} bytes of text")
        pairs.append((_string(data, table + slots[0], what), _string(data, table + slots[1], what)))
    return tuple(pairs)


# --- writing ---


def _lay_out(fields: tuple[_Field, ...], present: tuple[int, ...]) -> _Layout:
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


def _write(fields: tuple[_Field, ...], layout: _Layout, values: list[Any]) -> bytes:
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
