"""The short way to a BodyChunk's frame, against the general one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BodyChunk,
    LocalProtocolError,
    MessageType,
    decode_message,
    encode_message,
)
from connector_sdk.wire.messages import encode_chunk


@given(request_id=st.integers(1, 2**64 - 1), data=st.binary(max_size=300))
def test_it_is_the_frame_that_the_codec_makes(request_id: int, data: bytes) -> None:
    assert encode_chunk(request_id, data) == encode_message(BodyChunk(request_id=request_id, data=data))


def test_a_request_id_of_zero_means_the_same_though_it_is_written_out() -> None:
    frame = encode_chunk(0, b"data")
    assert decode_message(MessageType.BODY_CHUNK, frame[5:]) == BodyChunk(request_id=0, data=b"data")


def test_what_is_too_long_for_a_frame_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="exceeds the limit"):
        encode_chunk(1, bytes(MAX_FRAME_BYTES))
