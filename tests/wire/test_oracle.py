"""Our codec against flatc: the same fields as the schema, and each reads what the other writes."""

import enum
import re
from typing import Any

import flatc_code
import pytest
from binary_schema import SchemaField, read_schema
from buffer_walk import Walk
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_sdk.wire import ErrorClass, HealthCheck, MessageType, PayloadFormat, ResponseMode, messages
from connector_sdk.wire._generated import connector_ipc_generated as generated
from connector_sdk.wire.flatbuffer import TableCodec

pytestmark = pytest.mark.unmeasured

SCHEMA = read_schema()
CODECS: dict[str, TableCodec] = {
    **{message_class.__name__: codec for message_class, codec in messages._CODECS.items()},
    "HttpRequest": messages.HTTP_REQUEST_CODEC,
    "HttpResponse": messages.HTTP_RESPONSE_CODEC,
}
ENUMS: dict[str, type[enum.IntEnum]] = {
    "MessageType": MessageType,
    "ErrorClass": ErrorClass,
    "ResponseMode": ResponseMode,
    "PayloadFormat": PayloadFormat,
}
# The schema's name of a scalar type, and the struct code of our field.
CODES = {"bool": "?", "int8": "b", "uint16": "H", "int32": "i", "uint32": "I", "uint64": "Q"}
RANGES = {
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}

every_table = pytest.mark.parametrize("table", sorted(CODECS))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
byte_strings = st.binary(max_size=40)


def values_of(field: SchemaField) -> st.SearchStrategy[Any]:
    strategy: st.SearchStrategy[Any]
    if field.enum is not None:
        return st.sampled_from(ENUMS[field.enum])
    if field.kind == "bool":
        return st.booleans()
    if field.kind in RANGES:
        low, high = RANGES[field.kind]
        return st.sampled_from([low, 0, 1, high]) | st.integers(low, high)
    if field.kind == "string":
        strategy = texts
    elif field.kind == "bytes":
        strategy = byte_strings
    else:
        strategy = st.lists(st.tuples(texts, texts), max_size=4).map(tuple)
    return strategy if field.required else st.none() | strategy


def tables_of(table: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.name: values_of(field) for field in SCHEMA.tables[table]})


def message_of(table: str, values: dict[str, Any]) -> Any:
    return getattr(messages, table)(**values)


# --- the schema ---


def test_every_table_and_every_enum_of_the_schema_has_its_class() -> None:
    assert set(SCHEMA.tables) == {*CODECS, "KeyValue"}
    assert set(SCHEMA.enums) == set(ENUMS)


@every_table
def test_the_fields_of_a_class_are_those_of_the_schema_in_slot_order(table: str) -> None:
    assert getattr(messages, table).__struct_fields__ == tuple(field.name for field in SCHEMA.tables[table])
    ours = [(field.name, field.kind, field.required, field.enum_class) for field in CODECS[table].fields]
    wanted = [
        (field.name, CODES.get(field.kind, field.kind), field.required, ENUMS[field.enum] if field.enum else None)
        for field in SCHEMA.tables[table]
    ]
    assert ours == wanted


@every_table
def test_the_defaults_of_a_class_are_those_of_the_schema(table: str) -> None:
    for ours, wanted in zip(CODECS[table].fields, SCHEMA.tables[table], strict=True):
        if wanted.required:
            continue
        if wanted.kind in CODES:
            assert ours.default == wanted.default, wanted.name
        else:
            assert ours.default is None, wanted.name


def test_a_key_and_a_value_are_the_two_fields_of_a_pair() -> None:
    assert SCHEMA.tables["KeyValue"] == (
        SchemaField("key", "string", 0, True, None),
        SchemaField("value", "string", 0, True, None),
    )


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_an_enum_has_the_names_and_values_of_the_schema_and_of_the_generated_code(name: str) -> None:
    ours = {member.name: member.value for member in ENUMS[name]}
    assert ours == {_upper_snake(key): value for key, value in SCHEMA.enums[name].items()}
    of_generated = {key: value for key, value in vars(getattr(generated, name)).items() if not key.startswith("_")}
    assert SCHEMA.enums[name] == of_generated


def _upper_snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def test_every_message_type_has_the_class_that_its_name_says() -> None:
    renamed = {"HealthResponse": "HealthCheckResponse"}
    for name, value in SCHEMA.enums["MessageType"].items():
        assert messages._CLASSES[MessageType(value)].__name__ == renamed.get(name, name)
    assert HealthCheck.__struct_fields__ == ()


# --- both directions ---


@every_table
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_flatc_writes_we_read(table: str, data: st.DataObject) -> None:
    values = data.draw(tables_of(table))
    buffer = flatc_code.write(table, values)
    assert CODECS[table].decode(buffer) == message_of(table, values)


@every_table
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_defaults_that_are_written_out_are_read_as_such(table: str, data: st.DataObject) -> None:
    """Some builders write a scalar even if it is 0; it means the same."""
    values = data.draw(tables_of(table))
    buffer = flatc_code.write(table, values, force_defaults=True)
    assert CODECS[table].decode(buffer) == message_of(table, values)


@every_table
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_we_write_flatc_reads(table: str, data: st.DataObject) -> None:
    values = data.draw(tables_of(table))
    buffer = CODECS[table].encode(message_of(table, values))
    assert flatc_code.read(table, buffer) == values


@every_table
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_we_write_is_aligned_and_ends_its_strings_in_nul(table: str, data: st.DataObject) -> None:
    """Readers in other languages load scalars in place, and hand strings to C."""
    values = data.draw(tables_of(table))
    buffer = CODECS[table].encode(message_of(table, values))
    Walk(buffer, table)
    assert len(buffer) % 4 == 0


@every_table
def test_the_smallest_and_the_fullest_message_are_aligned(table: str) -> None:
    smallest = {field.name: "" for field in SCHEMA.tables[table] if field.required}
    samples = {"string": "text", "bytes": b"bytes", "key_values": (("a", "bc"), ("def", ""))}
    fullest = {field.name: samples.get(field.kind, 1) for field in SCHEMA.tables[table]}
    for values in (smallest, fullest):
        buffer = CODECS[table].encode(message_of(table, values))
        Walk(buffer, table)
        assert CODECS[table].decode(buffer) == message_of(table, values)


@every_table
def test_fields_of_a_newer_peer_are_passed_over(table: str) -> None:
    """Tables grow at their end: a reader that knows fewer fields reads those it knows."""
    fields = SCHEMA.tables[table]
    values = {field.name: "x" if field.kind == "string" else None for field in fields}
    buffer = bytearray(flatc_code.write(table, values))
    root = int.from_bytes(buffer[:4], "little")
    vtable = root - int.from_bytes(buffer[root : root + 4], "little", signed=True)
    slots = buffer[vtable + 4 : vtable + int.from_bytes(buffer[vtable : vtable + 2], "little")]
    slots = slots.ljust(2 * len(fields), b"\0") + b"\x04\x00\xff\xff"
    table_bytes = buffer[vtable + 2 : vtable + 4]
    buffer[root : root + 4] = (root - len(buffer)).to_bytes(4, "little", signed=True)
    buffer += (4 + len(slots)).to_bytes(2, "little") + table_bytes + slots
    wanted = {field.name: "x" for field in fields if field.kind == "string"}
    assert CODECS[table].decode(bytes(buffer)) == message_of(table, wanted)


# --- the checker itself ---


@every_table
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_checker_accepts_what_flatc_writes(table: str, data: st.DataObject) -> None:
    Walk(flatc_code.write(table, data.draw(tables_of(table))), table)


def _changed(buffer: bytes, position: int, byte: int) -> bytes:
    return buffer[:position] + bytes([byte]) + buffer[position + 1 :]


def test_the_checker_refuses_what_breaks_the_rules() -> None:
    # root offset, vtable of one slot (6 bytes), 2 of padding, table, string
    good = bytes.fromhex("0c000000 06000800 0400 0000 08000000 04000000 02000000 686900 00")
    Walk(good, "GoAway")
    broken = {
        "does not end in NUL": _changed(good, 26, 1),
        "is not aligned": _changed(good, 16, 5),
        "leaves its table": _changed(good, 8, 6),
        "leave the buffer": _changed(good, 20, 200),
        "refers to itself": _changed(good, 16, 0),
        "parts overlap": _changed(good, 6, 12),
    }
    for message, buffer in broken.items():
        with pytest.raises(AssertionError, match=message):
            Walk(buffer, "GoAway")
    assert CODECS["GoAway"].encode(messages.GoAway(reason="hi")) == good
