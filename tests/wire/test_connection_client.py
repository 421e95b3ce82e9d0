"""The client's end: what it refuses to send, what it refuses to hear, and what it gives back as credit."""

import pytest
from connection_ends import LEGACY_ANSWER, STREAM, ask, client_hears, client_of_the_daemon, said
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
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    LocalProtocolError,
    MalformedMessage,
    Message,
    MessageType,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    UnknownMessageType,
    encode_message,
)

# --- sending ---


def test_a_second_request_under_an_id_in_flight_is_our_callers_mistake() -> None:
    client = client_of_the_daemon()
    client.send(ask(1, STREAM))
    for again in (ask(), ask(1, STREAM)):
        with pytest.raises(LocalProtocolError, match=r"^request 1 is in flight already$"):
            client.send(again)
    assert client.in_flight == 1
    client_hears(client, ResponseHead(request_id=1), ResponseEnd(request_id=1))


@pytest.mark.parametrize("mode", ResponseMode)
def test_request_id_0_is_left_to_frames_that_the_daemon_could_not_read(mode: ResponseMode) -> None:
    """An answer under 0 could not be told from a complaint, and the exchange would never end."""
    client = client_of_the_daemon()
    with pytest.raises(LocalProtocolError, match=r"^request_id 0 "):
        client.send(ask(0, mode))
    assert client.in_flight == 0


def test_a_request_that_cannot_be_encoded_is_not_in_flight() -> None:
    client = client_of_the_daemon()
    with pytest.raises(LocalProtocolError, match=r"exceeds the limit"):
        client.send(
            ExecuteRequest(
                request_id=1, tenant_id="t", connector_name="c", operation="o", payload=bytes(MAX_FRAME_BYTES)
            )
        )
    assert client.in_flight == 0
    client.send(ask())


@pytest.mark.parametrize("mode", ResponseMode)
def test_a_request_in_flight_is_cancelled_as_often_as_one_likes_and_still_ends_once(mode: ResponseMode) -> None:
    client = client_of_the_daemon()
    client.send(ask(1, mode))
    for _ in range(2):
        assert said(client.send(Cancel(request_id=1))) == [Cancel(request_id=1)]
    assert client.in_flight == 1, "only the daemon's answer ends it"
    kind = ResponseEnd if mode is ResponseMode.STREAM else ExecuteResponse
    client_hears(client, kind(request_id=1, error_class=ErrorClass.CANCELLED))
    assert client.in_flight == 0


def test_a_cancel_for_nothing_is_our_callers_mistake() -> None:
    client = client_of_the_daemon()
    client.send(ask())
    client_hears(client, ExecuteResponse(request_id=1))
    for request_id in (1, 2):
        with pytest.raises(LocalProtocolError, match=rf"^request {request_id} is not in flight$"):
            client.send(Cancel(request_id=request_id))


def test_after_go_away_what_runs_goes_on_and_nothing_new_begins() -> None:
    client = client_of_the_daemon()
    client.send(ask(1, STREAM))
    assert not client.is_going_away
    client_hears(client, GoAway(reason="draining"))
    assert client.is_going_away
    with pytest.raises(LocalProtocolError, match=r"^the daemon is going away; new requests need a new connection$"):
        client.send(ask(2))
    client_hears(client, ResponseHead(request_id=1), BodyChunk(request_id=1, data=b"x"))
    assert client.send(HealthCheck())
    assert client.send(Cancel(request_id=1))
    client_hears(client, ResponseEnd(request_id=1))


# --- credit (rule 6) ---


def test_what_the_application_consumes_goes_back_as_credit_for_its_stream() -> None:
    client = client_of_the_daemon(window_bytes=100)
    client.send(ask(1, STREAM))
    client.send(ask(2, STREAM))
    assert client.consumed(1, 24) == b""
    assert client.consumed(2, 24) == b"", "each stream counts by itself"
    assert said(client.consumed(1, 1)) == [CreditUpdate(request_id=1, credit_delta=25)]
    assert said(client.consumed(2, 76)) == [CreditUpdate(request_id=2, credit_delta=100)]


def test_no_credit_is_sent_for_what_is_no_stream_in_flight() -> None:
    client = client_of_the_daemon(window_bytes=4)
    client.send(ask(1))
    client.send(ask(2, STREAM))
    client_hears(client, ResponseHead(request_id=2), BodyChunk(request_id=2, data=b"late"), ResponseEnd(request_id=2))
    for request_id in (0, 1, 2, 3):
        assert client.consumed(request_id, 11) == b""


def test_a_daemon_may_not_send_more_than_the_window_and_what_was_returned() -> None:
    client = client_of_the_daemon(window_bytes=8)
    client.send(ask(1, STREAM))
    client_hears(client, ResponseHead(request_id=1), BodyChunk(request_id=1, data=b"12345678"))
    assert client.consumed(1, 5) == encode_message(CreditUpdate(request_id=1, credit_delta=5))
    client_hears(client, BodyChunk(request_id=1, data=b"12345"))
    client.receive_data(encode_message(BodyChunk(request_id=1, data=b"1")))
    with pytest.raises(RemoteProtocolError, match="1 bytes of a stream's body beyond its credit"):
        client.next_event()


# --- hearing (rule 8) ---


def test_what_concerns_the_connection_may_come_at_any_time() -> None:
    client_hears(
        client_of_the_daemon(),
        CreditUpdate(request_id=0, credit_delta=5, total_credits=9),
        HealthCheckResponse(healthy=True),
        LEGACY_ANSWER,
    )


@pytest.mark.parametrize(
    "message", [ask(), HealthCheck(), Cancel(request_id=1), Hello()], ids=lambda message: type(message).__name__
)
def test_a_message_that_only_a_client_sends_and_a_second_hello_are_refused(message: Message) -> None:
    client = client_of_the_daemon()
    client.send(ask())
    client.receive_data(encode_message(message))
    with pytest.raises(RemoteProtocolError, match=rf"^{type(message).__name__} is not for a daemon to send$"):
        client.next_event()


@pytest.mark.parametrize("frame", [encode_frame(11, b""), encode_frame(255, b"?")])
def test_a_type_that_nobody_knows_is_refused(frame: bytes) -> None:
    client = client_of_the_daemon()
    client.receive_data(frame)
    with pytest.raises(UnknownMessageType):
        client.next_event()


@pytest.mark.parametrize("kind", [kind for kind in MessageType if kind is not MessageType.HEALTH_CHECK])
def test_a_malformed_message_is_refused_whatever_its_type(kind: MessageType) -> None:
    client = client_of_the_daemon()
    client.receive_data(encode_frame(kind, b"\xff" * 9))
    with pytest.raises(MalformedMessage):
        client.next_event()


def test_lost_framing_is_refused_every_time_that_one_asks() -> None:
    client = client_of_the_daemon()
    client.receive_data(bytes(4))
    for _ in range(2):
        with pytest.raises(BadFrameLength):
            client.next_event()


def test_events_before_the_peers_mistake_are_still_delivered() -> None:
    client = client_of_the_daemon()
    client.send(ask(1, STREAM))
    head, chunk = ResponseHead(request_id=1, status_code=200), BodyChunk(request_id=1, data=b"kept")
    client.receive_data(encode_message(head) + encode_message(chunk) + encode_message(head))
    assert [client.next_event(), client.next_event()] == [head, chunk]
    with pytest.raises(RemoteProtocolError, match=r"^ResponseHead for request 1 in state body$"):
        client.next_event()
