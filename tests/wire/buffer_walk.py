"""An independent check of a FlatBuffers buffer against the rules of the format, by the compiled schema.

Knows nothing of our encoder; the format is that of "FlatBuffers Internals" (flatbuffers.dev).
"""

import struct
from itertools import pairwise

from binary_schema import SchemaField, read_schema

SCALARS = {"bool": "<B", "int8": "<b", "uint16": "<H", "int32": "<i", "uint32": "<I", "uint64": "<Q"}


class Walk:
    """Walks a whole buffer; ``used`` collects the regions that its parts occupy.

    Raises:
        AssertionError: a rule is broken; the message names the field and the position.
    """

    def __init__(self, data: bytes, table_name: str) -> None:
        self.data = data
        self.used: set[tuple[int, int]] = {(0, 4)}
        self._table(self._follow(0, "root"), table_name)
        self._assert_apart()

    def _number(self, code: str, position: int, what: str) -> int:
        size = struct.calcsize(code)
        assert position % size == 0, f"{what} at {position} is not aligned to {size}"
        assert 0 <= position <= len(self.data) - size, f"{what} at {position} lies outside the buffer"
        value: int = struct.unpack_from(code, self.data, position)[0]
        return value

    def _follow(self, position: int, what: str) -> int:
        offset = self._number("<I", position, what)
        assert offset > 0, f"{what} at {position} refers to itself"
        return position + offset

    def _table(self, table: int, table_name: str) -> None:
        vtable = table - self._number("<i", table, f"{table_name} table")
        vtable_bytes = self._number("<H", vtable, f"{table_name} vtable")
        table_bytes = self._number("<H", vtable + 2, f"{table_name} table size")
        assert vtable_bytes >= 4, f"{table_name} vtable of {vtable_bytes} bytes"
        assert vtable_bytes % 2 == 0, f"{table_name} vtable of {vtable_bytes} bytes"
        assert table_bytes >= 4, f"{table_name} table of {table_bytes} bytes"
        self._use(vtable, vtable_bytes)
        self._use(table, table_bytes)
        fields = read_schema().tables[table_name]
        for slot, position in enumerate(range(vtable + 4, vtable + vtable_bytes, 2)):
            at = self._number("<H", position, f"{table_name} slot {slot}")
            if at:
                field = fields[slot]
                self._field(table + at, table + table_bytes, f"{table_name}.{field.name}", field)

    def _field(self, position: int, end: int, what: str, field: SchemaField) -> None:
        if field.kind in SCALARS:
            assert position + struct.calcsize(SCALARS[field.kind]) <= end, f"{what} leaves its table"
            self._number(SCALARS[field.kind], position, what)
            return
        assert position + 4 <= end, f"{what} leaves its table"
        vector = self._follow(position, what)
        count = self._number("<I", vector, f"{what} length")
        if field.kind == "key_values":
            self._use(vector, 4 + 4 * count)
            for index in range(count):
                self._table(self._follow(vector + 4 + 4 * index, f"{what}[{index}]"), "KeyValue")
        elif field.kind == "string":
            self._use(vector, 4 + count + 1)
            assert self.data[vector + 4 + count] == 0, f"{what} at {vector} does not end in NUL"
            self.data[vector + 4 : vector + 4 + count].decode()
        else:
            self._use(vector, 4 + count)

    def _use(self, start: int, size: int) -> None:
        assert start >= 0, f"a part at {start}"
        assert start + size <= len(self.data), f"{size} bytes at {start} leave the buffer"
        self.used.add((start, start + size))

    def _assert_apart(self) -> None:
        """Parts may be referred to twice (a shared vtable), but never overlap."""
        regions = sorted(self.used)
        for (_, end), (start, _) in pairwise(regions):
            assert end <= start, f"parts overlap at {start}"
