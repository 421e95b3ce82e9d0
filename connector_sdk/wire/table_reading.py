"""Reading FlatBuffers tables from bytes of strangers: no offset, length or vector is followed before it was checked."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import MalformedMessage
from .fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES, Field, KeyValues

_u32 = struct.Struct("<I").unpack_from
_i32 = struct.Struct("<i").unpack_from
_usual_pair = struct.Struct("<iII").unpack_from  # the reference to its vtable, then to its key and its value
_two_u16 = struct.Struct("<HH").unpack_from

# Each SDK has a few heads for a message; strangers may send others without end.
MAX_PLANS = 64
MAX_HEAD_BYTES = 256


class _Plan(NamedTuple):
    """All fields of a table in one step, for messages of one head.

    The head is everything from the root offset to the table's reference to its vtable, which lies in between: in
    messages with the same head all fields are present at the same places, and what was checked once holds for all.
    """

    inline: Callable[[bytes], tuple[Any, ...]]  # all fields of the table; struct.error if it leaves the buffer
    fields: tuple[tuple[str, str, int], ...]  # name, kind; of a reference what makes its value the vector's start
    enums: tuple[tuple[str, dict[int, enum.IntEnum]], ...]

    def read(self, data: bytes) -> dict[str, Any]:
        """The values of the fields.

        Raises:
            MalformedMessage, LookupError, UnicodeDecodeError, struct.error: the table is not what it should be; the
                careful way says why.
        """
        inline, fields, enums = self
        size = len(data)
        values: dict[str, Any] = {}
        for value, (name, kind, start) in zip(inline(data), fields, strict=False):
            if not start:
                values[name] = value
            elif kind == "key_values":
                values[name] = _key_values(data, start - 4, name)
            else:
                start += value
                end = start + _u32(data, start - 4)[0]
                if end > size:
                    raise IndexError
                values[name] = data[start:end].decode() if kind == "string" else data[start:end]
        for name, members in enums:
            values[name] = members[values[name]]
        return values


class TableReader:
    """Reads tables of the same fields."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self._fields = fields
        self._plans: dict[bytes, _Plan] = {}

    def read(self, data: bytes) -> dict[str, Any]:
        """The values of the fields that the root table has.

        Raises:
            MalformedMessage: see TableCodec.decode.
        """
        try:
            return self._plans[data[: _u32(data)[0] + 4]].read(data)
        except (LookupError, UnicodeDecodeError, struct.error):
            return self._read_carefully(data)

    def _read_carefully(self, data: bytes) -> dict[str, Any]:
        """Field by field, whatever the table looks like; the words of all errors are here."""
        table = _offset(data, 0, "root")
        slots, table_bytes = _open_table(data, table, len(self._fields))
        values: dict[str, Any] = {}
        for index, field in enumerate(self._fields):
            slot = slots[index] if index < len(slots) else 0
            if slot:
                values[field.name] = _read_field(data, table, slot, field)
            elif field.required:
                raise MalformedMessage(f"required field {field.name} is missing")
        self._plan(data, table, slots, table_bytes)
        return values

    def _plan(self, data: bytes, table: int, slots: tuple[int, ...], table_bytes: int) -> None:
        """Make a plan for messages that begin like this one, which has been read, if it is of the usual kind.

        Not where the vtable lies behind the table, or where fields overlap or reach beyond the table.
        """
        vtable = table - _i32(data, table)[0]
        if vtable + _two_u16(data, vtable)[0] > table or table + 4 > MAX_HEAD_BYTES:
            return
        present = sorted((slot, field) for slot, field in zip(slots, self._fields, strict=False) if slot)
        code, end = f"<{table}x", 0
        for slot, field in present:
            if slot < end:
                return
            code += f"{slot - end}x{field.code}"
            end = slot + struct.calcsize("<" + field.code)
        if end > table_bytes:
            return
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        self._plans[data[: table + 4]] = _Plan(
            struct.Struct(f"{code}{table_bytes - end}x").unpack_from,
            tuple((field.name, field.kind, (table + slot + 4) * field.is_reference) for slot, field in present),
            tuple((field.name, field.members) for _, field in present if field.enum_class),
        )


def _offset(data: bytes, position: int, what: str) -> int:
    """Follow the unsigned offset at ``position``."""
    if position < 0 or position + 4 > len(data):
        raise MalformedMessage(f"{what}: an offset outside the buffer of {len(data)} bytes")
    target: int = position + _u32(data, position)[0]
    if target + 4 > len(data):
        raise MalformedMessage(f"{what}: offset to {target} in a buffer of {len(data)} bytes")
    return target


def _open_table(data: bytes, table: int, known_fields: int) -> tuple[tuple[int, ...], int]:
    """The slots of the table at ``table``, each 0 or within the table, at most ``known_fields`` of them; its size.

    Slots after those are not looked at: 4,096 tables of a small frame can share one vtable of 32,765 slots.
    """
    vtable = table - _i32(data, table)[0]
    if vtable < 0 or vtable + 4 > len(data):
        raise MalformedMessage(f"vtable at {vtable} in a buffer of {len(data)} bytes")
    vtable_size, table_size = _two_u16(data, vtable)
    if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > len(data):
        raise MalformedMessage(f"vtable of {vtable_size} bytes in a buffer of {len(data)} bytes")
    if table_size < 4 or table + table_size > len(data):
        raise MalformedMessage(f"table of {table_size} bytes in a buffer of {len(data)} bytes")
    slots = struct.unpack_from(f"<{min((vtable_size - 4) // 2, known_fields)}H", data, vtable + 4)
    for slot in slots:
        if slot and not 4 <= slot < table_size:
            raise MalformedMessage(f"field at {slot} in a table of {table_size} bytes")
    return slots, table_size


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


def _vector(data: bytes, position: int, element_bytes: int, what: str) -> tuple[int, int]:
    """Start and element count of the vector that the offset at ``position`` refers to."""
    vector = _offset(data, position, what)
    (count,) = _u32(data, vector)
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
    size = len(data)
    total_bytes = 0
    pairs = []
    known_vtable = None  # the pairs of one sender share a vtable: its slots are looked at once
    table_size = key_slot = value_slot = 0
    is_usual = False
    try:
        for at in range(start, start + 4 * count, 4):
            table = at + _u32(data, at)[0]
            to_vtable, key, value = _usual_pair(data, table)
            vtable = table - to_vtable
            if vtable != known_vtable or table + table_size > size:
                slots, table_size = _open_table(data, table, 2)
                if len(slots) < 2 or not slots[0] or not slots[1]:
                    raise MalformedMessage(f"{what}: entry {(at - start) // 4} lacks its key or value")
                key_slot, value_slot = slots
                is_usual = key_slot == 4 and value_slot == 8
                known_vtable = vtable
            if not is_usual:
                (key,), (value,) = _u32(data, table + key_slot), _u32(data, table + value_slot)
            key += table + key_slot + 4
            key_end = key + _u32(data, key - 4)[0]
            value += table + value_slot + 4
            value_end = value + _u32(data, value - 4)[0]
            if key_end > size or value_end > size:
                raise MalformedMessage(f"{what}: a text that ends outside the buffer of {size} bytes")
            total_bytes += key_end - key + value_end - value
            if total_bytes > MAX_KEY_VALUE_BYTES:
                raise MalformedMessage(f"{what}: more than {MAX_KEY_VALUE_BYTES} bytes of text")
            pairs.append((data[key:key_end].decode(), data[value:value_end].decode()))
    except struct.error as error:
        raise MalformedMessage(f"{what}: an offset outside the buffer of {size} bytes") from error
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"{what} is not UTF-8") from error
    return tuple(pairs)
