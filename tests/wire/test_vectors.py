"""What the existing SDKs and the existing runtime said to each other is read, and said again, without loss."""

from collections.abc import Iterable

import pytest
from captured import CAPTURED, CLIENTS, IDS, Captured, fields_of

from connector_sdk.wire import (
    ExecuteRequest,
    ExecuteResponse,
    Frame,
    FrameDecoder,
    decode_message,
    encode_message,
)

every_capture = pytest.mark.parametrize("captured", CAPTURED, ids=IDS)
FIELDS_AFTER_LEGACY = {"headers", "response_mode", "payload_format", "retry_after_ms", "attempts"}


def read_all(pieces: Iterable[bytes]) -> tuple[list[Frame], FrameDecoder]:
    decoder = FrameDecoder()
    frames = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames, decoder


def assert_says(frame: Frame, captured: Captured) -> None:
    assert frame.message_type == captured.message_type
    message = decode_message(frame.message_type, frame.payload)
    assert fields_of(message, captured.fields) == captured.fields


def test_the_capture_holds_both_directions_of_all_four_sdks() -> None:
    assert len(CAPTURED) == 84
    assert {(captured.client, captured.direction) for captured in CAPTURED} == {
        (client, direction)
        for client in ("go", "java", "python", "typescript")
        for direction in ("request", "response")
    }


@every_capture
def test_a_frame_fed_whole_says_what_it_said(captured: Captured) -> None:
    frames, decoder = read_all([captured.frame])
    assert len(frames) == 1
    assert_says(frames[0], captured)
    assert not decoder.is_mid_frame


@every_capture
def test_fields_that_the_existing_sdks_do_not_know_come_out_as_their_defaults(captured: Captured) -> None:
    message = decode_message(captured.message_type, captured.payload)
    expected_class = ExecuteRequest if captured.direction == "request" else ExecuteResponse
    assert type(message) is expected_class
    for name in set(message.__struct_fields__) - set(captured.fields):
        assert name in FIELDS_AFTER_LEGACY
        assert not getattr(message, name)


@every_capture
def test_a_frame_fed_byte_by_byte_says_what_it_said(captured: Captured) -> None:
    frames, decoder = read_all(bytes([byte]) for byte in captured.frame)
    assert len(frames) == 1
    assert_says(frames[0], captured)
    assert not decoder.is_mid_frame


@every_capture
def test_the_beginning_of_a_next_frame_changes_nothing_and_is_kept(captured: Captured) -> None:
    """A read may end anywhere in the next frame; that frame is complete once its rest arrives."""
    next_frame = CAPTURED[0].frame
    for cut in range(1, len(next_frame)):
        frames, decoder = read_all([captured.frame + next_frame[:cut]])
        assert frames == [Frame(captured.message_type, captured.payload)]
        assert decoder.is_mid_frame
        decoder.receive_data(next_frame[cut:])
        rest = decoder.next_frame()
        assert rest is not None
        assert_says(rest, CAPTURED[0])
        assert not decoder.is_mid_frame


@pytest.mark.parametrize("client", CLIENTS)
def test_all_frames_of_a_client_may_arrive_in_one_read(client: str) -> None:
    story = [captured for captured in CAPTURED if captured.client == client]
    frames, decoder = read_all([b"".join(captured.frame for captured in story)])
    assert len(frames) == len(story)
    for frame, captured in zip(frames, story, strict=True):
        assert_says(frame, captured)
    assert not decoder.is_mid_frame


@pytest.mark.parametrize("size", [1, 3, 7, 64, 1000])
def test_all_frames_may_arrive_in_pieces_of_any_size(size: int) -> None:
    stream = b"".join(captured.frame for captured in CAPTURED)
    frames, _ = read_all(stream[at : at + size] for at in range(0, len(stream), size))
    assert len(frames) == len(CAPTURED)
    for frame, captured in zip(frames, CAPTURED, strict=True):
        assert_says(frame, captured)


@every_capture
def test_what_was_read_is_written_as_a_frame_that_says_the_same(captured: Captured) -> None:
    message = decode_message(captured.message_type, captured.payload)
    frames, _ = read_all([encode_message(message)])
    assert len(frames) == 1
    assert_says(frames[0], captured)
    assert decode_message(*frames[0]) == message


def test_every_request_has_at_most_one_response_and_they_share_the_id() -> None:
    """The ids survive as 64-bit numbers: a client could not match its answers otherwise."""
    ids: dict[tuple[str, str], list[int]] = {}
    for captured in CAPTURED:
        message = decode_message(captured.message_type, captured.payload)
        assert isinstance(message, ExecuteRequest | ExecuteResponse)
        ids.setdefault((captured.client, captured.direction), []).append(message.request_id)
    for client in CLIENTS:
        requests, responses = ids[client, "request"], ids[client, "response"]
        assert len(set(requests)) == len(requests)
        assert set(responses) - {0} <= set(requests)
