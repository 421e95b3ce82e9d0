"""Every mistake of a client has its answer at the daemon, and touches nothing but what it is about."""

import pytest
from connection_ends import STREAM, ask, daemon_hears, daemon_with_hello, invalid, refusal
from raw_frame import encode_frame

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BadFrameLength,
    BodyChunk,
    CreditUpdate,
    ErrorClass,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Message,
    MessageType,
    ResponseEnd,
    ResponseHead,
    encode_message,
)
from connector_sdk.wire.daemon_connection import Admitted, BadCredit, DaemonConnection, Refused
from connector_sdk.wire.flow import MAX_CREDIT_BYTES

# --- credit (rule 6) ---


def test_a_credit_opens_the_window_of_its_stream_alone() -> None:
    daemon = daemon_with_hello(ask(1, STREAM), ask(2, STREAM))
    for request_id in (1, 2):
        assert daemon.window(request_id).take(5000) == 1000
    update = CreditUpdate(request_id=1, credit_delta=300)
    assert daemon_hears(daemon, update) == [update]
    assert daemon.window(1).credit_bytes == 300
    assert daemon.window(2).credit_bytes == 0


def test_a_credit_for_anything_but_a_stream_in_flight_is_ignored() -> None:
    """Request 0, a buffered request, an id never seen, a stream that has ended; also with a delta that is bad."""
    daemon = daemon_with_hello(ask(1), ask(2, STREAM))
    daemon.send(ResponseEnd(request_id=2))
    for request_id in (0, 1, 2, 3):
        for delta in (1, -1, 0, MAX_CREDIT_BYTES):
            assert daemon_hears(daemon, CreditUpdate(request_id=request_id, credit_delta=delta)) == []
    assert daemon.in_flight == 1


def test_a_credit_without_hello_is_ignored_as_the_existing_sdks_expect() -> None:
    daemon = DaemonConnection()
    assert daemon_hears(daemon, CreditUpdate(credit_delta=-5, total_credits=10)) == []


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        (-1, "credit_delta -1 is negative"),
        (-(2**31), "credit_delta -2147483648 is negative"),
        (MAX_CREDIT_BYTES - 999, "credit_delta 2147482648 lifts the stream's credit over 2147483647"),
        (MAX_CREDIT_BYTES, "credit_delta 2147483647 lifts the stream's credit over 2147483647"),
    ],
)
def test_a_bad_credit_names_its_stream_which_is_then_ended_once(delta: int, reason: str) -> None:
    daemon = daemon_with_hello(ask(1, STREAM), ask(2, STREAM))
    bad = CreditUpdate(request_id=1, credit_delta=delta)
    assert daemon_hears(daemon, bad) == [BadCredit(1, reason)]
    assert daemon.window(1).credit_bytes == daemon.window(2).credit_bytes == 1000
    assert daemon.in_flight == 2
    assert daemon.send(ResponseEnd(request_id=1, error_class=ErrorClass.INVALID_REQUEST, error_message=reason))
    assert daemon_hears(daemon, bad) == []
    assert daemon.in_flight == 1


def test_the_largest_credit_that_there_can_be_is_taken() -> None:
    daemon = daemon_with_hello(ask(1, STREAM))
    assert daemon_hears(daemon, CreditUpdate(request_id=1, credit_delta=MAX_CREDIT_BYTES - 1000))
    assert daemon.window(1).credit_bytes == MAX_CREDIT_BYTES


def test_a_new_stream_under_an_old_id_has_a_window_of_its_own() -> None:
    daemon = daemon_with_hello(ask(1, STREAM))
    daemon.window(1).take(1000)
    daemon.send(ResponseEnd(request_id=1))
    daemon_hears(daemon, ask(1, STREAM))
    assert daemon.window(1).credit_bytes == 1000


# --- what cannot be read, or is not for a client to say (rule 8) ---


def wrong_direction(name: str) -> tuple[type[Message], int, ErrorClass, str]:
    return invalid(f"Invalid FlatBuffers message: {name} is not for a client to send here")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (ExecuteResponse(request_id=1), "EXECUTE_RESPONSE"),
        (HealthCheckResponse(), "HEALTH_RESPONSE"),
        (ResponseHead(request_id=1), "RESPONSE_HEAD"),
        (BodyChunk(request_id=1), "BODY_CHUNK"),
        (ResponseEnd(request_id=1), "RESPONSE_END"),
        (GoAway(), "GO_AWAY"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_wrong_direction_is_refused_by_name_and_touches_no_request(message: Message, name: str) -> None:
    daemon = daemon_with_hello(ask(1, STREAM))
    assert [refusal(event) for event in daemon_hears(daemon, message)] == [wrong_direction(name)]
    assert [refusal(event) for event in daemon_hears(DaemonConnection(), message)] == [wrong_direction(name)]
    assert daemon.send(ResponseHead(request_id=1))


@pytest.mark.parametrize("number", [11, 255])
def test_an_unknown_type_is_refused_by_its_number(number: int) -> None:
    daemon = daemon_with_hello(ask(1))
    daemon.receive_data(encode_frame(number, b"?"))
    event = daemon.next_event()
    assert event is not None
    assert refusal(event) == invalid(f"Invalid FlatBuffers message: unknown message type {number}")
    assert daemon.in_flight == 1


@pytest.mark.parametrize("kind", [kind for kind in MessageType if kind is not MessageType.HEALTH_CHECK])
def test_a_malformed_message_is_refused_in_the_contracts_words_and_the_log_learns_more(kind: MessageType) -> None:
    daemon = daemon_with_hello(ask(1))
    daemon.receive_data(encode_frame(kind, b"\xff" * 9) + encode_message(HealthCheck()))
    event = daemon.next_event()
    assert isinstance(event, Refused)
    assert refusal(event) == invalid("Invalid FlatBuffers message")
    assert event.reason
    assert daemon.next_event() == HealthCheck()
    assert daemon.in_flight == 1


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_lost_framing_is_the_one_thing_that_raises(length: int) -> None:
    daemon = daemon_with_hello()
    daemon.receive_data(encode_message(HealthCheck()) + length.to_bytes(4, "big"))
    assert daemon.next_event() == HealthCheck()
    for _ in range(2):
        with pytest.raises(BadFrameLength):
            daemon.next_event()
        daemon.receive_data(encode_message(HealthCheck()))


def test_what_is_held_of_an_unfinished_frame_can_be_asked_for() -> None:
    daemon = DaemonConnection()
    frame = encode_message(ask())
    daemon.receive_data(frame[:-1])
    assert daemon.next_event() is None
    assert daemon.pending_bytes == len(frame) - 1
    daemon.receive_data(frame[-1:])
    assert isinstance(daemon.next_event(), Admitted)
    assert daemon.pending_bytes == 0
