"""A small frame whose parts refer to one another many times does not become a large message."""

import tracemalloc

import pytest
from raw_buffers import is_message, raw_table, refused, shared_pairs, u32

from connector_sdk.wire import MessageType, ResponseHead, decode_message
from connector_sdk.wire.fields import MAX_KEY_VALUE_BYTES, MAX_KEY_VALUES


def peak_of_decoding(message_type: MessageType, payload: bytes) -> int:
    """The bytes that decoding holds at most, its result (or its error) included."""
    is_message(message_type, payload)  # what is only made once does not count
    tracemalloc.start()
    try:
        is_message(message_type, payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_as_many_pairs_as_the_limit_may_share_one_string() -> None:
    message = decode_message(MessageType.RESPONSE_HEAD, shared_pairs(MAX_KEY_VALUES, b"x" * 128))
    assert message == ResponseHead(headers=(("x" * 128, "x" * 128),) * MAX_KEY_VALUES)
    assert MAX_KEY_VALUES * 2 * 128 == MAX_KEY_VALUE_BYTES


def test_one_byte_of_text_more_is_refused() -> None:
    payload = shared_pairs(MAX_KEY_VALUES, b"x" * 129)
    assert refused(MessageType.RESPONSE_HEAD, payload) == "headers: more than 1048576 bytes of text"


def test_one_pair_more_than_the_limit_is_refused() -> None:
    payload = shared_pairs(MAX_KEY_VALUES + 1, b"")
    assert refused(MessageType.RESPONSE_HEAD, payload) == "headers: 4097 entries exceed the limit of 4096"


@pytest.mark.parametrize(("count", "text_bytes"), [(2, 300_000), (4096, 500_000), (4096, 2_000_000)])
def test_a_huge_string_shared_by_all_pairs_is_refused_before_it_is_multiplied(count: int, text_bytes: int) -> None:
    """Up to 16 GB would come out of a frame of 2 MB."""
    payload = shared_pairs(count, b"x" * text_bytes)
    assert refused(MessageType.RESPONSE_HEAD, payload) == "headers: more than 1048576 bytes of text"
    assert peak_of_decoding(MessageType.RESPONSE_HEAD, payload) < 2 * MAX_KEY_VALUE_BYTES


def test_a_million_pairs_are_refused_before_the_first_is_read() -> None:
    payload = raw_table(u32(4), [0, 0, 4], u32(1_000_000) + bytes(4_000_000))
    assert refused(MessageType.RESPONSE_HEAD, payload) == "headers: 1000000 entries exceed the limit of 4096"
    assert peak_of_decoding(MessageType.RESPONSE_HEAD, payload) < 100_000


@pytest.mark.parametrize("slots", [4, 32_765])
def test_of_a_huge_vtable_only_the_known_slots_are_looked_at(slots: int) -> None:
    """Shared by thousands of pairs, it would cost seconds of the daemon's time for one small frame."""
    payload = shared_pairs(1, b"x", pair_slots=slots)
    assert decode_message(MessageType.RESPONSE_HEAD, payload) == ResponseHead(headers=(("x", "x"),))
    assert peak_of_decoding(MessageType.RESPONSE_HEAD, payload) < 10_000

    payload = raw_table(u32(4), [0, 0, 4, *[0] * (slots - 3)], u32(0))
    assert decode_message(MessageType.RESPONSE_HEAD, payload) == ResponseHead(headers=())
    assert peak_of_decoding(MessageType.RESPONSE_HEAD, payload) < 10_000
