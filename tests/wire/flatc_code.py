"""Messages through flatc's generated code, the oracle: written with its Builder functions, read with its accessors."""

from typing import Any

import flatbuffers
from binary_schema import SchemaField, read_schema

from connector_sdk.wire._generated import connector_ipc_generated as generated


def write(table: str, values: dict[str, Any], *, force_defaults: bool = False) -> bytes:
    """The buffer that the generated code makes of a table; absent and None values are left out."""
    builder = flatbuffers.Builder(64)
    builder.ForceDefaults(force_defaults)
    ready = {}
    for field in read_schema().tables[table]:
        if (value := values.get(field.name)) is not None:
            ready[field.name] = _write_value(builder, table, field, value)
    _call(table, "Start")(builder)
    for name, value in ready.items():
        _call(table, f"Add{camel(name)}")(builder, value)
    builder.Finish(_call(table, "End")(builder))
    return bytes(builder.Output())


def read(table: str, data: bytes) -> dict[str, Any]:
    """Every field of the table as the generated accessors see it, strings decoded, enums as numbers."""
    root = getattr(generated, table).GetRootAs(data)
    return {field.name: _read_value(root, field) for field in read_schema().tables[table]}


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _call(table: str, name: str) -> Any:
    return getattr(generated, table + name)


def _write_value(builder: Any, table: str, field: SchemaField, value: Any) -> Any:
    if field.kind == "string":
        return builder.CreateString(value)
    if field.kind == "bytes":
        return builder.CreateByteVector(value)
    if field.kind == "key_values":
        entries = []
        for key, text in value:
            key_at, text_at = builder.CreateString(key), builder.CreateString(text)
            generated.KeyValueStart(builder)
            generated.KeyValueAddKey(builder, key_at)
            generated.KeyValueAddValue(builder, text_at)
            entries.append(generated.KeyValueEnd(builder))
        _call(table, f"Start{camel(field.name)}Vector")(builder, len(entries))
        for entry in reversed(entries):
            builder.PrependUOffsetTRelative(entry)
        return builder.EndVector()
    return value


def _read_value(root: Any, field: SchemaField) -> Any:
    accessor = getattr(root, camel(field.name))
    if field.kind == "string":
        text = accessor()
        return None if text is None else text.decode()
    if field.kind not in ("bytes", "key_values"):
        return accessor()
    if getattr(root, f"{camel(field.name)}IsNone")():
        return None
    elements = [accessor(index) for index in range(getattr(root, f"{camel(field.name)}Length")())]
    if field.kind == "bytes":
        return bytes(elements)
    return tuple((entry.Key().decode(), entry.Value().decode()) for entry in elements)
