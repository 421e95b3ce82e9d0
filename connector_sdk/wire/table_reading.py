"""Reading FlatBuffers tables from bytes of strangers: no offset, length or vector is followed before it was checked."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from .errors import MalformedMessage
from .fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES, Field, KeyValues

_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_HH = struct.Struct("<HH")

# Each SDK has a vtable or two for a message; strangers may send others without end.
MAX_PLANS = 64


class _Plan(NamedTuple):
    """All fields of a table in one step; for a table whose vtable has been checked."""

    table: struct.Struct
    fields: tuple[tuple[int, Field], ...]  # position in the table, in the order of `table`

    def read(self, data: bytes, table: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for value, (slot, field) in zip(self.table.unpack_from(data, table), self.fields, strict=True):
            kind = field.kind
            # Not through _read_field: a request is mostly texts, and read in 5 µs here, in 7 there.
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


class TableReader:
    """Reads tables of the same fields."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self._fields = fields
        self._plans: dict[bytes, _Plan | None] = {}

    def read(self, data: bytes) -> dict[str, Any]:
        """The values of the fields that the root table has.

        Raises:
            MalformedMessage: see TableCodec.decode.
        """
        table = _offset(data, 0, "root")
        plan = self._plan(data, table)
        if plan is not None:
            return plan.read(data, table)
        slots, table = _open_table(data, table, len(self._fields))
        values: dict[str, Any] = {}
        for index, field in enumerate(self._fields):
            slot = slots[index] if index < len(slots) else 0
            if slot:
                values[field.name] = _read_field(data, table, slot, field)
            elif field.required:
                raise MalformedMessage(f"required field {field.name} is missing")
        return values

    def _plan(self, data: bytes, table: int) -> _Plan | None:
        """How to read tables with this vtable, if it is of the usual kind; those of one client are all alike."""
        vtable = table - _I32.unpack_from(data, table)[0]
        if vtable < 0 or vtable + 4 > len(data):
            return None
        vtable_size, table_size = _HH.unpack_from(data, vtable)
        if table + table_size > len(data) or vtable + vtable_size > len(data):
            return None
        key = data[vtable : vtable + min(vtable_size, 4 + 2 * len(self._fields))]
        try:
            return self._plans[key]
        except KeyError:
            if len(self._plans) >= MAX_PLANS:
                return None
        slots, _ = _open_table(data, table, len(self._fields))
        plan = self._plans[key] = _plan_for(self._fields, slots, table_size)
        return plan


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


def _read_field(data: bytes, table: int, slot: int, field: Field) -> Any:
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


def _plan_for(fields: tuple[Field, ...], slots: tuple[int, ...], table_size: int) -> _Plan | None:
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
