"""Whatever the bytes of a stranger are, decoding them gives a message or MalformedMessage, never another error."""

import random
import struct

import pytest
from captured import CAPTURED, IDS, Captured
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_buffers import is_message, raw_string, raw_table, refused, shared_pairs, u32

from connector_sdk.wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    HttpRequest,
    HttpResponse,
    MalformedMessage,
    Message,
    MessageType,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    decode_message,
    encode_message,
)
from connector_sdk.wire.flatbuffer import TableCodec
from connector_sdk.wire.messages import HTTP_REQUEST_CODEC, HTTP_RESPONSE_CODEC

HEADERS = (("accept", "*/*"), ("set-cookie", "a=1"), ("set-cookie", "b=2"))
FULL_MESSAGES: tuple[Message, ...] = (
    ExecuteRequest(tenant_id="t", connector_name="http", operation="request", payload=b"{}", headers=HEADERS),
    ExecuteResponse(request_id=1, error_class=ErrorClass.TIMEOUT, error_message="late", duration_us=5, attempts=2),
    HealthCheckResponse(healthy=True, message="fine", active_requests=3, version="1", uptime_ms=9, draining=True),
    CreditUpdate(credit_delta=-5, total_credits=7, request_id=9),
    Hello(protocol_version=1, agent="test", max_frame_bytes=1000, stream_window_bytes=2000),
    ResponseHead(request_id=1, status_code=200, headers=HEADERS, attempts=1),
    BodyChunk(request_id=1, data=b"some bytes"),
    ResponseEnd(request_id=1, error_class=ErrorClass.PERMANENT, error_message="no", duration_us=5),
    Cancel(request_id=2**64 - 1),
    GoAway(reason="draining"),
)
TABLE_TYPES = tuple(kind for kind in MessageType if kind is not MessageType.HEALTH_CHECK)

every_full_message = pytest.mark.parametrize("message", FULL_MESSAGES, ids=lambda message: type(message).__name__)


# --- captured frames and our own, damaged ---


@pytest.mark.parametrize("captured", CAPTURED, ids=IDS)
def test_a_captured_payload_cut_at_any_length_is_a_message_or_malformed(captured: Captured) -> None:
    results = [is_message(captured.message_type, captured.payload[:end]) for end in range(len(captured.payload))]
    assert not any(results[:16]), "so few bytes hold no table"
    assert is_message(captured.message_type, captured.payload)


@every_full_message
def test_one_of_our_payloads_cut_at_any_length_is_a_message_or_malformed(message: Message) -> None:
    frame = encode_message(message)
    results = [is_message(frame[4], frame[5 : 5 + end]) for end in range(len(frame) - 5)]
    assert not any(results[:8])


@every_full_message
def test_a_payload_with_any_one_byte_changed_is_a_message_or_malformed(message: Message) -> None:
    """All 0, all 1, and one bit up and down: what turns small offsets into huge, negative and odd ones."""
    frame = encode_message(message)
    payload = bytearray(frame[5:])
    count = 0
    for position, byte in enumerate(payload):
        for changed in {0, 255, 128, byte ^ 1, byte ^ 128, (byte + 4) % 256, (byte - 4) % 256}:
            payload[position] = changed
            count += is_message(frame[4], bytes(payload))
        payload[position] = byte
    assert 0 < count < 7 * len(payload), "some changes matter, some do not"


def test_captured_payloads_with_a_few_bytes_changed_are_messages_or_malformed() -> None:
    """5,000 of them, from a fixed seed."""
    chance = random.Random(20)
    outcomes = {True: 0, False: 0}
    for _ in range(5000):
        captured = chance.choice(CAPTURED)
        payload = bytearray(captured.payload)
        for _ in range(chance.randint(1, 3)):
            # The first 64 bytes hold the offsets and the vtable; the rest is mostly text.
            position = chance.randrange(chance.choice((64, len(payload)))) % len(payload)
            payload[position] = chance.randrange(256)
        outcomes[is_message(captured.message_type, bytes(payload))] += 1
    assert min(outcomes.values()) > 500


@settings(max_examples=500, deadline=None)
@given(message_type=st.integers(0, 255), payload=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_malformed(message_type: int, payload: bytes) -> None:
    is_message(message_type, payload)


@pytest.mark.unmeasured
@settings(max_examples=500, deadline=None)
@given(
    message_type=st.sampled_from(TABLE_TYPES),
    numbers=st.lists(st.integers(0, 64) | st.sampled_from([2**15, 2**16 - 1]), min_size=8, max_size=80),
)
def test_random_small_offsets_are_a_message_or_malformed(message_type: int, numbers: list[int]) -> None:
    """Small numbers are offsets that lie inside: this gets further than random bytes do."""
    is_message(message_type, struct.pack(f"<I{len(numbers)}H", 12, *numbers))


@pytest.mark.parametrize(
    ("codec", "table"),
    [
        (HTTP_REQUEST_CODEC, HttpRequest(method="GET", url="http://x/", headers=HEADERS, body=b"body")),
        (HTTP_RESPONSE_CODEC, HttpResponse(status_code=200, headers=HEADERS, body=b"body")),
    ],
    ids=["HttpRequest", "HttpResponse"],
)
def test_the_tables_inside_a_payload_are_checked_the_same_way(codec: TableCodec, table: object) -> None:
    data = codec.encode(table)
    assert codec.decode(data) == table
    for end in range(len(data) - 16):  # the last 16 bytes may be padding and an empty rest
        with pytest.raises(MalformedMessage):
            codec.decode(data[:end])


# --- lies, one at a time ---


def test_a_malformed_message_is_the_peers_fault() -> None:
    assert issubclass(MalformedMessage, RemoteProtocolError)


@pytest.mark.parametrize("message_type", range(11, 256))
def test_an_unknown_type_is_named(message_type: int) -> None:
    with pytest.raises(MalformedMessage, match=f"^unknown message type {message_type}$"):
        decode_message(message_type, b"")


@pytest.mark.parametrize("message_type", TABLE_TYPES)
@pytest.mark.parametrize("size", range(4))
def test_a_payload_shorter_than_its_root_offset_is_malformed(message_type: MessageType, size: int) -> None:
    assert refused(message_type, bytes(size)) == f"root: an offset outside the buffer of {size} bytes"


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 100])
def test_a_health_check_is_one_whatever_it_carries(payload: bytes) -> None:
    assert decode_message(MessageType.HEALTH_CHECK, payload) == HealthCheck()


TEXT = raw_string(b"hi")
TRUE_BUFFER = raw_table(u32(4), [4], TEXT)


def test_the_buffer_that_the_lies_start_from_is_true() -> None:
    assert decode_message(MessageType.GO_AWAY, TRUE_BUFFER) == GoAway(reason="hi")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (raw_table(u32(4), [4], TEXT, root=0), "vtable of 0 bytes"),
        (raw_table(u32(4), [4], TEXT, root=23), "root: offset to 23 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, root=2**31), "root: offset to 2147483648 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, root=2**32 - 1), "root: offset to 4294967295 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, to_vtable=5), "vtable at -1 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, to_vtable=2**31 - 1), "vtable at -2147483643 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, to_vtable=-19), "vtable at 23 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, to_vtable=-(2**31)), "vtable at 2147483652 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], TEXT, to_vtable=0), "vtable of 0 bytes"),
        (raw_table(u32(4), [4], TEXT, vtable_bytes=0), "vtable of 0 bytes"),
        (raw_table(u32(4), [4], TEXT, vtable_bytes=2), "vtable of 2 bytes"),
        (raw_table(u32(4), [4], TEXT, vtable_bytes=5), "vtable of 5 bytes"),
        (raw_table(u32(4), [4], TEXT, vtable_bytes=8), "vtable of 8 bytes"),
        (raw_table(u32(4), [4], TEXT, vtable_bytes=65534), "vtable of 65534 bytes"),
        (raw_table(u32(4), [4], TEXT, table_bytes=0), "table of 0 bytes"),
        (raw_table(u32(4), [4], TEXT, table_bytes=3), "table of 3 bytes"),
        (raw_table(u32(4), [4], TEXT, table_bytes=65535), "table of 65535 bytes"),
        (raw_table(u32(4), [1], TEXT), "field at 1 in a table of 8 bytes"),
        (raw_table(u32(4), [3], TEXT), "field at 3 in a table of 8 bytes"),
        (raw_table(u32(4), [8], TEXT), "field at 8 in a table of 8 bytes"),
        (raw_table(u32(4), [65535], TEXT), "field at 65535 in a table of 8 bytes"),
        (raw_table(u32(4), [21], TEXT, table_bytes=22), "reason: an offset outside the buffer of 26 bytes"),
        (raw_table(u32(15), [4], TEXT), "reason: offset to 23 in a buffer of 26 bytes"),
        (raw_table(u32(2**31), [4], TEXT), "reason: offset to 2147483656 in a buffer of 26 bytes"),
        (raw_table(u32(2**32 - 1), [4], TEXT), "reason: offset to 4294967303 in a buffer of 26 bytes"),
        (raw_table(u32(4), [4], u32(11)), "reason: a vector of 11 elements in a buffer of 22 bytes"),
        (raw_table(u32(4), [4], u32(2**31)), "reason: a vector of 2147483648 elements in a buffer of 22 bytes"),
        (raw_table(u32(4), [4], u32(2**32 - 1)), "reason: a vector of 4294967295 elements in a buffer of 22 bytes"),
        (raw_table(u32(4), [4], raw_string(b"\xff")), "reason is not UTF-8"),
        (raw_table(u32(4), [4], raw_string(b"\xc3")), "reason is not UTF-8"),
        (raw_table(u32(4), [4], raw_string(b"\xed\xa0\x80")), "reason is not UTF-8"),
        (raw_table(u32(4), [4], raw_string(b"\xc0\x80")), "reason is not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "buffer",
)
def test_a_lie_in_the_table_is_named(payload: bytes, message: str) -> None:
    assert refused(MessageType.GO_AWAY, payload).startswith(message)


def test_a_string_that_refers_to_itself_is_only_a_string() -> None:
    """Offset 0 leads to the offset, which then is a length of 0. No loop, and nothing read outside."""
    assert decode_message(MessageType.GO_AWAY, raw_table(u32(0), [4], TEXT)) == GoAway(reason="")


def test_a_vtable_that_overlaps_its_table_is_read_as_what_it_says() -> None:
    """Two sizes and a slot read out of the table itself; every number is still checked."""
    payload = u32(4) + struct.pack("<iHHHH", -4, 8, 12, 0, 8) + u32(2**31)
    assert decode_message(MessageType.GO_AWAY, payload) == GoAway()
    payload = u32(4) + struct.pack("<iHHHH", -4, 8, 12, 8, 8) + u32(2**31)
    assert "reason: offset to" in refused(MessageType.GO_AWAY, payload)


@pytest.mark.parametrize("count", [9, 2**29, 2**30, 2**31, 2**32 - 1])
def test_a_vector_with_more_bytes_than_the_buffer_is_refused(count: int) -> None:
    """Eight bytes, those of the vtable, follow the count."""
    assert isinstance(decode_message(MessageType.BODY_CHUNK, raw_table(u32(4), [0, 4], u32(8))), BodyChunk)
    payload = raw_table(u32(4), [0, 4], u32(count))
    assert refused(MessageType.BODY_CHUNK, payload) == f"data: a vector of {count} elements in a buffer of 24 bytes"


@pytest.mark.parametrize("count", [3, 2**29, 2**30, 2**31, 2**32 - 1])
def test_a_vector_with_more_pairs_than_the_buffer_has_offsets_is_refused(count: int) -> None:
    """2^30 times 4 is 0 in 32 bits, which must not pass for an empty vector."""
    payload = raw_table(u32(4), [0, 0, 4], u32(count))
    wanted = f"headers: a vector of {count} elements in a buffer of 26 bytes"
    assert refused(MessageType.RESPONSE_HEAD, payload) == wanted


def test_a_scalar_that_begins_in_its_table_may_not_end_outside_the_buffer() -> None:
    """The vtable stands in front, so that the table is the last thing in the buffer."""

    def cancel(slot: int) -> bytes:
        return u32(12) + struct.pack("<HHHHi", 6, 12, slot, 0, 8) + (77).to_bytes(8, "little")

    assert decode_message(MessageType.CANCEL, cancel(4)) == Cancel(request_id=77)
    for slot in range(5, 12):
        assert refused(MessageType.CANCEL, cancel(slot)) == "request_id lies outside the buffer"


@pytest.mark.parametrize("missing", ["tenant_id", "connector_name", "operation"])
def test_a_missing_required_field_is_named(missing: str) -> None:
    slots = {"tenant_id": 1, "connector_name": 4, "operation": 5}
    del slots[missing]
    places = [4 if index in slots.values() else 0 for index in range(11)]
    payload = raw_table(u32(4), places, TEXT)
    assert refused(MessageType.EXECUTE_REQUEST, payload) == f"required field {missing} is missing"


def test_a_table_too_short_for_its_required_fields_lacks_them() -> None:
    assert refused(MessageType.EXECUTE_REQUEST, raw_table(b"", [])) == "required field tenant_id is missing"


@pytest.mark.parametrize("value", [-128, -1, 7, 127])
def test_an_error_class_that_does_not_exist_is_named(value: int) -> None:
    payload = raw_table(struct.pack("<bxxx", value), [0, 4])
    assert refused(MessageType.EXECUTE_RESPONSE, payload) == f"error_class has no value {value}"


@pytest.mark.parametrize(("slot", "field"), [(9, "response_mode"), (10, "payload_format")])
def test_a_mode_or_format_that_does_not_exist_is_named(slot: int, field: str) -> None:
    places = [8 if index in (1, 4, 5) else 4 if index == slot else 0 for index in range(11)]
    payload = raw_table(struct.pack("<bxxx", 2) + u32(4), places, TEXT)
    assert refused(MessageType.EXECUTE_REQUEST, payload) == f"{field} has no value 2"


@pytest.mark.parametrize("byte", [1, 2, 255])
def test_a_bool_is_true_in_any_byte_but_zero(byte: int) -> None:
    payload = raw_table(bytes([byte, 0, 0, 0]), [4])
    message = decode_message(MessageType.HEALTH_RESPONSE, payload)
    assert isinstance(message, HealthCheckResponse)
    assert message.healthy is True


@pytest.mark.parametrize(("key", "value"), [(0, 8), (4, 0), (0, 0)])
def test_a_pair_without_its_key_or_value_is_refused(key: int, value: int) -> None:
    payload = shared_pairs(1, b"x")
    pair_vtable = struct.pack("<HHHH", 8, 12, 4, 8)
    assert payload.count(pair_vtable) == 1
    payload = payload.replace(pair_vtable, struct.pack("<HHHH", 8, 12, key, value))
    assert refused(MessageType.RESPONSE_HEAD, payload) == "headers: entry 0 lacks its key or value"


def test_a_pair_that_is_not_utf8_is_refused() -> None:
    assert refused(MessageType.RESPONSE_HEAD, shared_pairs(1, b"\xe9")) == "headers is not UTF-8"
