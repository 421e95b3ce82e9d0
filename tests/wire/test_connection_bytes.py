"""A whole conversation, cut into any pieces on its way, is the same conversation; and noise harms nobody."""

from collections.abc import Callable, Iterator

import pytest
from connection_ends import HELLO, STREAM, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_frame import encode_frame

from connector_sdk.wire import (
    BadFrameLength,
    BodyChunk,
    Cancel,
    CreditUpdate,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    Message,
    ResponseEnd,
    ResponseHead,
    encode_message,
)
from connector_sdk.wire.client_connection import ClientConnection, ClientEvent
from connector_sdk.wire.daemon_connection import Admitted, BadCredit, DaemonConnection, DaemonEvent, Refused

QUESTIONS: tuple[Message, ...] = (
    HELLO,
    ask(1, STREAM),
    ask(2),
    ask(1),
    HealthCheck(),
    CreditUpdate(request_id=1, credit_delta=10),
    CreditUpdate(request_id=9, credit_delta=10),
    CreditUpdate(request_id=1, credit_delta=-1),
    Cancel(request_id=2),
    Cancel(request_id=9),
    GoAway(),
    HELLO,
    ask(3, STREAM),
)
EVENT_TYPES = [Hello, Admitted, Admitted, Refused, HealthCheck, CreditUpdate, BadCredit, Cancel, Refused, Refused]
EVENT_TYPES += [Admitted]
ANSWERS: tuple[Message, ...] = (
    Hello(protocol_version=1, agent="daemon"),
    ResponseHead(request_id=1, status_code=200, headers=(("set-cookie", "a"), ("set-cookie", "b"))),
    CreditUpdate(total_credits=1022),
    BodyChunk(request_id=1, data=b"first"),
    ExecuteResponse(request_id=2, payload=b"{}"),
    BodyChunk(request_id=1, data=bytes(range(256))),
    HealthCheckResponse(healthy=True, active_requests=2),
    GoAway(reason="draining"),
    ResponseEnd(request_id=1, duration_us=5),
    ResponseEnd(request_id=3),
)


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    for value in data:
        yield bytes([value])


def in_pieces_of_seven(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 7):
        yield data[start : start + 7]


any_cut = pytest.mark.parametrize("cut", [whole, byte_by_byte, in_pieces_of_seven])


def events_at_the_daemon(daemon: DaemonConnection, pieces: Iterator[bytes]) -> list[DaemonEvent]:
    events: list[DaemonEvent] = []
    for piece in pieces:
        daemon.receive_data(piece)
        events += iter(daemon.next_event, None)
    return events


def asking_client() -> ClientConnection:
    """A client that has met the daemon and asked what ANSWERS answers."""
    client = ClientConnection("test")
    client.receive_data(encode_message(ANSWERS[0]))
    assert client.next_event() == ANSWERS[0]
    for request in (ask(1, STREAM), ask(2), ask(3, STREAM)):
        client.send(request)
    return client


@any_cut
def test_the_daemon_hears_the_same_however_it_is_cut(cut: Callable[[bytes], Iterator[bytes]]) -> None:
    daemon = DaemonConnection()
    data = b"".join(encode_message(message) for message in QUESTIONS)
    events = events_at_the_daemon(daemon, cut(data))
    assert [type(event) for event in events] == EVENT_TYPES
    assert events[1] == Admitted(ask(1, STREAM), len(encode_message(ask(1, STREAM))) - 5)
    assert events == events_at_the_daemon(DaemonConnection(), whole(data))
    assert daemon.in_flight == 3
    assert daemon.pending_bytes == 0


@any_cut
def test_the_client_hears_the_same_however_it_is_cut(cut: Callable[[bytes], Iterator[bytes]]) -> None:
    client = asking_client()
    events: list[ClientEvent] = []
    for piece in cut(b"".join(encode_message(message) for message in ANSWERS[1:])):
        client.receive_data(piece)
        events += iter(client.next_event, None)
    assert tuple(events) == ANSWERS[1:]
    assert client.in_flight == 0
    assert client.is_going_away


@any_cut
def test_the_peer_is_met_however_its_answer_is_cut(cut: Callable[[bytes], Iterator[bytes]]) -> None:
    client = ClientConnection("test")
    events: list[ClientEvent] = []
    for piece in cut(encode_message(ANSWERS[0])):
        client.receive_data(piece)
        events += iter(client.next_event, None)
    assert events == [ANSWERS[0]]


FRAMES = st.one_of(
    st.sampled_from(QUESTIONS + ANSWERS).map(encode_message),
    st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(lambda frame: encode_frame(*frame)),
    st.binary(max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(frames=st.lists(FRAMES, max_size=20), has_hello=st.booleans())
def test_whatever_a_client_sends_gives_events_or_lost_framing_and_nothing_else(
    frames: list[bytes], has_hello: bool
) -> None:
    daemon = DaemonConnection()
    data = (encode_message(HELLO) if has_hello else b"") + b"".join(frames)
    admitted = 0
    try:
        for piece in in_pieces_of_seven(data):
            daemon.receive_data(piece)
            while (event := daemon.next_event()) is not None:
                admitted += isinstance(event, Admitted)
                if isinstance(event, Refused):
                    assert encode_message(event.answer)
                    assert daemon.has_hello or isinstance(event.answer, ExecuteResponse)
    except BadFrameLength:
        with pytest.raises(BadFrameLength):
            daemon.next_event()
    assert daemon.in_flight == admitted
