"""The daemon's end: which requests it admits, which it refuses, and what it may send."""

import pytest
from connection_ends import BUFFERED, STREAM, ask, daemon_hears, daemon_with_hello, invalid, refusal

from connector_sdk.wire import (
    BodyChunk,
    Cancel,
    CreditUpdate,
    ErrorClass,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    LocalProtocolError,
    Message,
    PayloadFormat,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.daemon_connection import MAX_NAME_CHARACTERS, MAX_REQUESTS_IN_FLIGHT, Admitted, DaemonConnection

# --- requests (rules 2, 4 and 7) ---


@pytest.mark.parametrize("mode", ResponseMode)
def test_an_admitted_request_comes_with_the_size_of_its_message(mode: ResponseMode) -> None:
    request = ask(2**64 - 1, mode, payload=b"x" * 1000, payload_format=PayloadFormat.HTTP_REQUEST)
    daemon = daemon_with_hello()
    assert daemon_hears(daemon, request) == [Admitted(request, len(encode_message(request)) - 5)]
    assert daemon.in_flight == 1


@pytest.mark.parametrize("running", ResponseMode)
@pytest.mark.parametrize("again", ResponseMode)
def test_a_second_request_under_an_id_in_flight_leaves_the_running_one_untouched(
    running: ResponseMode, again: ResponseMode
) -> None:
    daemon = daemon_with_hello(ask(1, running))
    if running is STREAM:
        daemon.window(1).take(400)
        daemon.send(ResponseHead(request_id=1))
    (event,) = daemon_hears(daemon, ask(1, again))
    kind = ResponseEnd if again is STREAM else ExecuteResponse
    expected = kind, 1, ErrorClass.INVALID_REQUEST, "request_id 1 is in flight on this connection already"
    assert refusal(event) == expected
    assert daemon.in_flight == 1
    if running is STREAM:
        assert daemon.window(1).credit_bytes == 600
        assert daemon.send(BodyChunk(request_id=1, data=b"on"))
        assert daemon.send(ResponseEnd(request_id=1))
    else:
        assert daemon.send(ExecuteResponse(request_id=1))
    assert daemon.in_flight == 0


@pytest.mark.parametrize("has_hello", [True, False])
def test_one_request_too_many_waits_for_an_answer(has_hello: bool) -> None:
    daemon = daemon_with_hello() if has_hello else DaemonConnection()
    mode = STREAM if has_hello else BUFFERED
    for request_id in range(MAX_REQUESTS_IN_FLIGHT):
        assert [type(event) for event in daemon_hears(daemon, ask(request_id, mode))] == [Admitted]
    reason = "1024 requests are in flight on this connection; wait for answers"
    kind = ResponseEnd if has_hello else ExecuteResponse
    (event,) = daemon_hears(daemon, ask(5000, mode))
    assert refusal(event) == (kind, 5000, ErrorClass.RATE_LIMITED, reason)
    (event,) = daemon_hears(daemon, ask(5000))
    assert refusal(event) == (ExecuteResponse, 5000, ErrorClass.RATE_LIMITED, reason)
    assert daemon.in_flight == MAX_REQUESTS_IN_FLIGHT == 1024
    daemon.send(kind(request_id=17))
    assert [type(event) for event in daemon_hears(daemon, ask(5000, mode))] == [Admitted]


@pytest.mark.parametrize("mode", ResponseMode)
def test_a_draining_daemon_finishes_what_runs_and_takes_nothing_new(mode: ResponseMode) -> None:
    daemon = daemon_with_hello(ask(1, STREAM))
    daemon.is_draining = True
    assert daemon.send(GoAway(reason="draining"))
    (event,) = daemon_hears(daemon, ask(2, mode))
    kind = ResponseEnd if mode is STREAM else ExecuteResponse
    reason = "the runtime is draining and takes no new requests; connect again"
    assert refusal(event) == (kind, 2, ErrorClass.TRANSIENT, reason)
    assert daemon_hears(daemon, CreditUpdate(request_id=1, credit_delta=1), Cancel(request_id=1), HealthCheck()) == [
        CreditUpdate(request_id=1, credit_delta=1),
        Cancel(request_id=1),
        HealthCheck(),
    ]
    assert daemon.send(ResponseHead(request_id=1)) + daemon.send(ResponseEnd(request_id=1))
    assert daemon.in_flight == 0


@pytest.mark.parametrize("field", ["tenant_id", "workspace_id", "trace_id"])
def test_a_name_too_long_for_a_table_is_refused_and_one_that_fits_is_not(field: str) -> None:
    daemon = daemon_with_hello()
    (event,) = daemon_hears(daemon, ask(1, STREAM, **{field: "é" * (MAX_NAME_CHARACTERS + 1)}))
    reason = f"{field} has 257 characters; at most 256 are allowed"
    assert refusal(event) == (ResponseEnd, 1, ErrorClass.INVALID_REQUEST, reason)
    (event,) = daemon_hears(daemon, ask(1, STREAM, **{field: "é" * MAX_NAME_CHARACTERS}))
    assert isinstance(event, Admitted)


# --- Cancel (rule 5) ---


def test_a_cancel_is_passed_on_for_what_is_in_flight_and_for_nothing_else() -> None:
    daemon = daemon_with_hello(ask(1, STREAM), ask(2))
    cancels = [Cancel(request_id=request_id) for request_id in (1, 3, 2, 0, 2**64 - 1)]
    assert daemon_hears(daemon, *cancels) == [cancels[0], cancels[2]]
    assert daemon.in_flight == 2, "the terminal message is still to be sent"
    daemon.send(ResponseEnd(request_id=1, error_class=ErrorClass.CANCELLED))
    daemon.send(ExecuteResponse(request_id=2, error_class=ErrorClass.CANCELLED))
    assert daemon_hears(daemon, *cancels) == []


def test_what_is_ignored_does_not_hide_what_comes_after_it() -> None:
    daemon = daemon_with_hello()
    daemon.receive_data(
        encode_message(Cancel(request_id=9))
        + encode_message(CreditUpdate(request_id=9, credit_delta=1))
        + encode_message(HealthCheck())
    )
    assert daemon.next_event() == HealthCheck()
    assert daemon.next_event() is None


def test_a_cancel_without_hello_is_not_for_that_client_to_send() -> None:
    daemon = DaemonConnection()
    (admitted, event) = daemon_hears(daemon, ask(1), Cancel(request_id=1))
    assert isinstance(admitted, Admitted)
    assert refusal(event) == invalid("Invalid FlatBuffers message: CANCEL is not for a client to send here")
    assert daemon.in_flight == 1


# --- sending ---


@pytest.mark.parametrize("message", [ask(), HealthCheck(), Cancel(request_id=1)], ids=lambda m: type(m).__name__)
def test_what_only_a_client_says_the_daemon_cannot_send(message: Message) -> None:
    with pytest.raises(LocalProtocolError, match=rf"^{type(message).__name__} is not for a daemon to send$"):
        daemon_with_hello(ask()).send(message)


def test_what_concerns_the_connection_may_be_sent_at_any_time_after_hello() -> None:
    daemon = daemon_with_hello()
    for message in (GoAway(reason="draining"), CreditUpdate(total_credits=9), HealthCheckResponse(draining=True)):
        assert daemon.send(message) == encode_message(message)


def test_a_draining_daemon_has_no_credit_for_further_requests() -> None:
    daemon = DaemonConnection()
    assert daemon.available_credits == MAX_REQUESTS_IN_FLIGHT
    daemon.is_draining = True
    assert daemon.available_credits == 0
