"""The short ways to a BodyChunk's frame and a successful ExecuteResponse's, against the general one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BodyChunk,
    ExecuteResponse,
    LocalProtocolError,
    MessageType,
    decode_message,
    encode_message,
)
from connector_sdk.wire.messages import encode_chunk, encode_success


@given(request_id=st.integers(1, 2**64 - 1), data=st.binary(max_size=300))
def test_it_is_the_frame_that_the_codec_makes(request_id: int, data: bytes) -> None:
    assert encode_chunk(request_id, data) == encode_message(BodyChunk(request_id=request_id, data=data))


def test_a_request_id_of_zero_means_the_same_though_it_is_written_out() -> None:
    frame = encode_chunk(0, b"data")
    assert decode_message(MessageType.BODY_CHUNK, frame[5:]) == BodyChunk(request_id=0, data=b"data")


def test_what_is_too_long_for_a_frame_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="exceeds the limit"):
        encode_chunk(1, bytes(MAX_FRAME_BYTES))


@given(
    request_id=st.integers(1, 2**64 - 1),
    payload=st.binary(max_size=300),
    duration_us=st.integers(1, 2**64 - 1),
    attempts=st.integers(1, 2**16 - 1),
)
def test_a_success_is_the_frame_that_the_codec_makes(
    request_id: int, payload: bytes, duration_us: int, attempts: int
) -> None:
    message = ExecuteResponse(request_id=request_id, payload=payload, duration_us=duration_us, attempts=attempts)
    assert encode_success(request_id, payload, duration_us, attempts) == encode_message(message)


def test_a_success_in_zeros_means_the_same_though_they_are_written_out() -> None:
    frame = encode_success(0, b"", 0, 0)
    assert decode_message(MessageType.EXECUTE_RESPONSE, frame[5:]) == ExecuteResponse(payload=b"")


@pytest.mark.parametrize(
    "numbers", [(1, bytes(MAX_FRAME_BYTES), 1, 1), (2**64, b"", 1, 1), (1, b"", -1, 1), (1, b"", 1, 2**16)]
)
def test_what_fits_no_frame_or_no_field_is_refused(numbers: tuple[int, bytes, int, int]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_success(*numbers)
