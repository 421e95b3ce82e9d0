"""Frames: u32 big-endian length, type byte, payload; and what we refuse to send."""

from typing import Any

import pytest
from raw_frame import encode_frame

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BadFrameLength,
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    Frame,
    FrameDecoder,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    LocalProtocolError,
    Message,
    RemoteProtocolError,
    ResponseHead,
    decode_message,
    encode_message,
)
from connector_sdk.wire.fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES

REQUIRED: dict[str, Any] = {"tenant_id": "t", "connector_name": "http", "operation": "request"}


def length(size: int) -> bytes:
    return size.to_bytes(4, "big")


# --- reading ---


def test_a_frame_is_its_length_its_type_and_its_payload() -> None:
    assert encode_frame(7, b"abc") == b"\x00\x00\x00\x04\x07abc"
    assert encode_frame(255, b"") == b"\x00\x00\x00\x01\xff"


def test_a_decoder_that_was_fed_nothing_has_nothing() -> None:
    decoder = FrameDecoder()
    assert decoder.next_frame() is None
    decoder.receive_data(b"")
    assert decoder.next_frame() is None
    assert not decoder.is_mid_frame


def test_a_frame_may_be_cut_at_every_byte() -> None:
    frame = encode_frame(6, b"0123456789")
    for cut in range(1, len(frame)):
        decoder = FrameDecoder()
        decoder.receive_data(frame[:cut])
        assert decoder.next_frame() is None
        assert decoder.is_mid_frame
        decoder.receive_data(frame[cut:])
        assert decoder.next_frame() == Frame(6, b"0123456789")
        assert decoder.next_frame() is None
        assert not decoder.is_mid_frame


def test_many_frames_in_one_read_come_out_in_order() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(b"".join(encode_frame(index % 256, bytes(index % 5)) for index in range(1000)))
    for index in range(1000):
        assert decoder.is_mid_frame
        assert decoder.next_frame() == Frame(index % 256, bytes(index % 5))
    assert decoder.next_frame() is None
    assert not decoder.is_mid_frame


def test_the_type_byte_is_not_judged_by_the_framing() -> None:
    """An unknown type has an answer of its own; the frames after it can still be read."""
    decoder = FrameDecoder()
    decoder.receive_data(encode_frame(200, b"?") + encode_message(Cancel(request_id=3)))
    assert decoder.next_frame() == Frame(200, b"?")
    frame = decoder.next_frame()
    assert frame is not None
    assert decode_message(*frame) == Cancel(request_id=3)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "frame length 0: a frame has at least its type byte"),
        (MAX_FRAME_BYTES + 1, "frame length 10485761 exceeds the limit of 10485760 bytes"),
        (2**31, "frame length 2147483648 exceeds the limit of 10485760 bytes"),
        (2**32 - 1, "frame length 4294967295 exceeds the limit of 10485760 bytes"),
    ],
)
def test_a_length_that_cannot_be_is_refused_as_soon_as_its_four_bytes_are_there(size: int, message: str) -> None:
    decoder = FrameDecoder()
    for byte in length(size)[:3]:
        decoder.receive_data(bytes([byte]))
        assert decoder.next_frame() is None
    decoder.receive_data(length(size)[3:])
    for _ in range(2):
        with pytest.raises(BadFrameLength) as caught:
            decoder.next_frame()
        assert str(caught.value) == message
        assert isinstance(caught.value, RemoteProtocolError)
    assert len(decoder._buffer) == 4, "the length alone, nothing set aside for what it announces"


def test_frames_before_a_bad_length_are_still_delivered() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(encode_frame(2, b"") + length(0) + encode_frame(2, b""))
    assert decoder.next_frame() == Frame(2, b"")
    for _ in range(2):
        with pytest.raises(BadFrameLength):
            decoder.next_frame()


def test_a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_not() -> None:
    decoder = FrameDecoder(max_frame_bytes=8)
    decoder.receive_data(encode_frame(1, b"1234567") + encode_frame(1, b"12345678"))
    assert decoder.next_frame() == Frame(1, b"1234567")
    with pytest.raises(BadFrameLength, match=r"frame length 9 exceeds the limit of 8 bytes"):
        decoder.next_frame()


def test_a_frame_of_ten_mebibytes_goes_through_both_ends() -> None:
    """Fed in reads as a socket gives them."""
    frame = encode_frame(7, b"x" * (MAX_FRAME_BYTES - 1))
    decoder = FrameDecoder()
    for at in range(0, len(frame), 65536):
        assert decoder.next_frame() is None
        decoder.receive_data(frame[at : at + 65536])
    received = decoder.next_frame()
    assert received is not None
    assert (received.message_type, len(received.payload)) == (7, MAX_FRAME_BYTES - 1)


def test_what_was_read_does_not_stay_in_the_buffer() -> None:
    decoder = FrameDecoder()
    for _ in range(100):
        decoder.receive_data(encode_frame(7, bytes(1000)))
        assert decoder.next_frame() is not None
    assert len(decoder._buffer) == 0, "not the last of them, let alone the hundred that passed"


# --- writing ---


def test_a_payload_over_the_limit_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="a frame of 10485761 bytes exceeds the limit of 10485760"):
        encode_frame(7, bytes(MAX_FRAME_BYTES))


def test_a_message_over_the_limit_is_not_sent() -> None:
    """The existing SDKs lose the framing of their connection over such a frame."""
    with pytest.raises(LocalProtocolError, match="exceeds the limit of 10485760"):
        encode_message(BodyChunk(request_id=1, data=bytes(MAX_FRAME_BYTES)))


@pytest.mark.parametrize("message_type", [-1, 256, 2**40])
def test_a_type_that_is_no_byte_is_not_sent(message_type: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"message type {message_type} does not fit one byte"):
        encode_frame(message_type, b"")


def test_a_health_check_has_an_empty_payload() -> None:
    assert encode_message(HealthCheck()) == b"\x00\x00\x00\x01\x02"


@pytest.mark.parametrize(
    ("message_class", "field", "value"),
    [
        (ExecuteRequest, "request_id", -1),
        (ExecuteRequest, "request_id", 2**64),
        (ExecuteRequest, "request_id", "1"),
        (ExecuteRequest, "request_id", 1.5),
        (ExecuteRequest, "request_id", None),
        (ExecuteRequest, "deadline_at_ms", -1),
        (ExecuteRequest, "tenant_id", None),
        (ExecuteRequest, "tenant_id", 5),
        (ExecuteRequest, "tenant_id", b"bytes"),
        (ExecuteRequest, "workspace_id", 5),
        (ExecuteRequest, "trace_id", "lone \ud800 surrogate"),
        (ExecuteRequest, "payload", "text"),
        (ExecuteRequest, "payload", 5),
        (ExecuteRequest, "payload", [1, 2]),
        (ExecuteRequest, "headers", 5),
        (ExecuteRequest, "headers", (("name",),)),
        (ExecuteRequest, "headers", (("name", "value", "more"),)),
        (ExecuteRequest, "headers", ("name",)),
        (ExecuteRequest, "headers", (("name", None),)),
        (ExecuteRequest, "headers", ((b"name", "value"),)),
        (ExecuteRequest, "headers", (("name", "\udfff"),)),
        (ExecuteRequest, "response_mode", 2),
        (ExecuteRequest, "payload_format", "json"),
        (ExecuteResponse, "error_class", 7),
        (ExecuteResponse, "error_class", -1),
        (ExecuteResponse, "error_class", 1000),
        (ExecuteResponse, "attempts", 2**16),
        (ExecuteResponse, "retry_after_ms", 2**32),
        (CreditUpdate, "credit_delta", 2**31),
        (CreditUpdate, "credit_delta", -(2**31) - 1),
        (CreditUpdate, "total_credits", -1),
        (Hello, "protocol_version", -1),
        (ResponseHead, "status_code", 2**16),
        (GoAway, "reason", "\udc80"),
    ],
    ids=lambda value: getattr(value, "__name__", ascii(value)),
)
def test_a_value_that_its_field_cannot_hold_is_not_sent(message_class: type[Message], field: str, value: Any) -> None:
    required = REQUIRED if message_class is ExecuteRequest else {}
    with pytest.raises(LocalProtocolError, match=f"^{message_class.__name__} cannot be encoded: "):
        encode_message(message_class(**{**required, field: value}))


@pytest.mark.parametrize(
    "message",
    [
        ExecuteRequest(**REQUIRED, request_id=2**64 - 1, deadline_at_ms=2**64 - 1),
        ExecuteRequest(tenant_id="", connector_name="", operation="", payload=b"", headers=(), trace_id="\0"),
        ExecuteResponse(error_class=ErrorClass.CANCELLED, retry_after_ms=2**32 - 1, attempts=2**16 - 1),
        CreditUpdate(credit_delta=2**31 - 1),
        CreditUpdate(credit_delta=-(2**31)),
        HealthCheckResponse(healthy=True, uptime_ms=2**64 - 1, draining=True),
        ResponseHead(headers=(("n", "v"),) * MAX_KEY_VALUES),
        ResponseHead(headers=(("é" * 10, "v" * (MAX_KEY_VALUE_BYTES - 20)),)),
    ],
    ids=lambda message: repr(message)[:60],
)
def test_a_value_at_the_edge_of_its_field_is_sent(message: Message) -> None:
    frame = encode_message(message)
    assert decode_message(frame[4], frame[5:]) == message


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ((("n", "v"),) * (MAX_KEY_VALUES + 1), "4097 key-value pairs exceed the limit of 4096"),
        ((("é" * 10, "v" * (MAX_KEY_VALUE_BYTES - 19)),), "key-value pairs of more than 1048576 bytes of text"),
        ((("n", "v" * 1000),) * 1048, "key-value pairs of more than 1048576 bytes of text"),
    ],
)
def test_headers_that_the_other_end_would_refuse_are_not_sent(
    headers: tuple[tuple[str, str], ...], message: str
) -> None:
    """An upstream may answer with them; the request must get an error, not an answer that cannot be read."""
    with pytest.raises(LocalProtocolError, match=f"ResponseHead cannot be encoded: {message}"):
        encode_message(ResponseHead(headers=headers))
