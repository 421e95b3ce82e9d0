"""What ``schemas/connector_ipc.fbs`` says, as flatc compiles it into its binary schema: independent of our code.

The layout of a binary schema is FlatBuffers' own ``reflection.fbs``; the numbers below are its slots.
"""

import functools
import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from flatbuffers import number_types
from flatbuffers.table import Table

ROOT = Path(__file__).resolve().parents[2]

# reflection.BaseType
SCALARS = {2: "bool", 3: "int8", 6: "uint16", 7: "int32", 8: "uint32", 10: "uint64"}
UBYTE, STRING, VECTOR, TABLE = 4, 13, 14, 15


class SchemaField(NamedTuple):
    """One field of a table: ``kind`` is a scalar's type, "string", "bytes" or "key_values"."""

    name: str
    kind: str
    default: int
    required: bool
    enum: str | None


class Schema(NamedTuple):
    """Tables with their fields in slot order, and enums with their values; by name, without the namespace."""

    tables: dict[str, tuple[SchemaField, ...]]
    enums: dict[str, dict[str, int]]


@functools.cache
def read_schema() -> Schema:
    flatc = runpy.run_path(str(ROOT / "scripts" / "generate_schema.py"))["find_flatc"]()
    with tempfile.TemporaryDirectory() as directory:
        command = [flatc, "--binary", "--schema", "-o", directory, str(ROOT / "schemas" / "connector_ipc.fbs")]
        subprocess.run(command, check=True, capture_output=True)
        data = (Path(directory) / "connector_ipc.bfbs").read_bytes()
    root = Table(data, int.from_bytes(data[:4], "little"))
    enums = _tables(root, 1)
    enum_names = [_name(enum) for enum in enums]
    return Schema(
        tables={_name(table): _fields(table, enum_names) for table in _tables(root, 0)},
        enums={_name(enum): {_name(value): _int64(value, 1) for value in _tables(enum, 1)} for enum in enums},
    )


def _fields(table: Table, enum_names: list[str]) -> tuple[SchemaField, ...]:
    fields: dict[int, SchemaField] = {}
    for field in _tables(table, 1):
        field_type = _table(field, 1)
        base_type, element = _int8(field_type, 0), _int8(field_type, 1)
        enum_index = _int32(field_type, 2, default=-1)
        kind = SCALARS.get(base_type, "")
        if base_type == STRING:
            kind = "string"
        elif base_type == VECTOR:
            kind = {UBYTE: "bytes", TABLE: "key_values"}[element]
        assert kind, f"{_name(field)} has base type {base_type}, of which this project has none"
        enum = enum_names[enum_index] if kind == "int8" and enum_index >= 0 else None
        fields[_uint16(field, 2)] = SchemaField(_name(field), kind, _int64(field, 4), _bool(field, 7), enum)
    assert sorted(fields) == list(range(len(fields)))
    return tuple(fields[slot] for slot in sorted(fields))


def _at(table: Table, slot: int) -> int | None:
    offset = table.Offset(4 + 2 * slot)
    return table.Pos + offset if offset else None


def _scalar(table: Table, slot: int, flags: type, default: int) -> int:
    position = _at(table, slot)
    return default if position is None else int(table.Get(flags, position))


def _int8(table: Table, slot: int) -> int:
    return _scalar(table, slot, number_types.Int8Flags, 0)


def _int32(table: Table, slot: int, default: int) -> int:
    return _scalar(table, slot, number_types.Int32Flags, default)


def _uint16(table: Table, slot: int) -> int:
    return _scalar(table, slot, number_types.Uint16Flags, 0)


def _int64(table: Table, slot: int) -> int:
    return _scalar(table, slot, number_types.Int64Flags, 0)


def _bool(table: Table, slot: int) -> bool:
    return bool(_scalar(table, slot, number_types.BoolFlags, 0))


def _name(table: Table) -> str:
    position = _at(table, 0)
    assert position is not None
    return str(table.String(position), "utf-8").rpartition(".")[2]


def _table(table: Table, slot: int) -> Table:
    position = _at(table, slot)
    assert position is not None
    return Table(table.Bytes, table.Indirect(position))


def _tables(table: Table, slot: int) -> list[Table]:
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(table.VectorLen(offset))]
