"""Meeting the peer (protocol.md part 2, rule 1): who speaks part 2 and who does not, found out by both ends."""

import pytest
from connection_ends import (
    HELLO,
    LEGACY_ANSWER,
    STREAM,
    ask,
    client_hears,
    client_of_the_daemon,
    client_of_the_existing_runtime,
    daemon_hears,
    daemon_with_hello,
    invalid,
    refusal,
    said,
)
from raw_frame import encode_frame

from connector_sdk.wire import (
    MAX_FRAME_BYTES,
    BodyChunk,
    Cancel,
    CreditUpdate,
    ExecuteRequest,
    ExecuteResponse,
    GoAway,
    HealthCheck,
    HealthCheckResponse,
    Hello,
    LocalProtocolError,
    Message,
    PayloadFormat,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    encode_message,
)
from connector_sdk.wire.client_connection import ClientConnection, Peer
from connector_sdk.wire.daemon_connection import MAX_WINDOW_BYTES, Admitted, DaemonConnection, Refused
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES

LATE_HELLO = invalid("Hello must be the first message of a connection, and the only one")


# --- at the client ---


def test_the_first_bytes_are_a_hello_with_who_we_are_and_what_we_take() -> None:
    expected = Hello(protocol_version=1, agent="me 1.0", max_frame_bytes=MAX_FRAME_BYTES, stream_window_bytes=1000)
    assert said(ClientConnection("me 1.0", 1000).start()) == [expected]


@pytest.mark.parametrize("window_bytes", [-1, 2**32])
def test_a_window_that_no_hello_can_say_is_our_callers_mistake(window_bytes: int) -> None:
    with pytest.raises(LocalProtocolError, match=r"^Hello cannot be encoded: "):
        ClientConnection("test", window_bytes).start()


@pytest.mark.parametrize("message", [ask(), ask(1, STREAM), Cancel(request_id=1), HealthCheck()], ids=repr)
def test_nothing_is_sent_before_the_peer_is_known(message: ExecuteRequest | Cancel | HealthCheck) -> None:
    client = ClientConnection("test")
    client.start()
    assert client.peer is Peer.UNKNOWN
    with pytest.raises(LocalProtocolError, match=r"^nothing may be sent before Hello is answered$"):
        client.send(message)
    assert client.in_flight == 0


def test_a_hello_in_answer_is_the_daemon() -> None:
    assert client_of_the_daemon().peer is Peer.DAEMON


def test_an_execute_response_in_answer_is_the_existing_runtime() -> None:
    assert client_of_the_existing_runtime().peer is Peer.LEGACY


@pytest.mark.parametrize(
    "message",
    [
        ExecuteResponse(request_id=0),
        HealthCheckResponse(healthy=True),
        CreditUpdate(total_credits=9),
        GoAway(),
        ResponseHead(request_id=1),
        BodyChunk(request_id=1),
        ResponseEnd(request_id=1),
        ask(),
        HealthCheck(),
        Cancel(request_id=1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_any_other_first_message_is_a_peer_that_breaks_the_rules(message: Message) -> None:
    client = ClientConnection("test")
    client.receive_data(encode_message(message))
    with pytest.raises(RemoteProtocolError, match=rf"^{type(message).__name__} in answer to Hello$"):
        client.next_event()
    assert client.peer is Peer.UNKNOWN


# --- the existing runtime (rule 1) ---


def test_the_existing_runtime_answers_buffered_json_requests() -> None:
    client = client_of_the_existing_runtime()
    assert said(client.send(ask(1)) + client.send(ask(2))) == [ask(1), ask(2)]
    client_hears(client, ExecuteResponse(request_id=2), ExecuteResponse(request_id=1))
    assert client.in_flight == 0


HTTP_TABLE = ExecuteRequest(
    request_id=1,
    tenant_id="t",
    connector_name="http",
    operation="request",
    payload_format=PayloadFormat.HTTP_REQUEST,
)


@pytest.mark.parametrize("request_", [ask(1, STREAM), HTTP_TABLE], ids=["Stream", "HttpRequest"])
def test_part_2_is_never_sent_to_the_existing_runtime(request_: ExecuteRequest) -> None:
    client = client_of_the_existing_runtime()
    with pytest.raises(LocalProtocolError, match=r"^the existing runtime answers buffered JSON requests only$"):
        client.send(request_)
    assert client.in_flight == 0
    assert client_of_the_daemon().send(request_) == encode_message(request_), "the daemon takes it"


def test_no_cancel_is_sent_to_the_existing_runtime() -> None:
    client = client_of_the_existing_runtime()
    client.send(ask())
    with pytest.raises(LocalProtocolError, match=r"^the existing runtime knows no Cancel$"):
        client.send(Cancel(request_id=1))
    assert client.in_flight == 1


def test_a_complaint_of_the_existing_runtime_about_a_frame_ends_no_request() -> None:
    """It answers a HealthCheck so, too."""
    client = client_of_the_existing_runtime()
    client.send(ask())
    client.send(HealthCheck())
    client_hears(client, LEGACY_ANSWER)
    assert client.in_flight == 1
    client_hears(client, ExecuteResponse(request_id=1))


# --- at the daemon ---


def test_a_hello_that_comes_first_opens_part_2() -> None:
    daemon = DaemonConnection()
    assert not daemon.has_hello
    assert daemon_hears(daemon, HELLO) == [HELLO]
    assert daemon.has_hello
    assert daemon.send(Hello(protocol_version=1)) == encode_message(Hello(protocol_version=1))


@pytest.mark.parametrize("first", [HealthCheck(), ask(), CreditUpdate(credit_delta=1), Cancel(request_id=1)], ids=repr)
def test_a_late_hello_is_refused_and_the_connection_stays_with_part_1(first: Message) -> None:
    daemon = DaemonConnection()
    daemon_hears(daemon, first)
    assert [refusal(event) for event in daemon_hears(daemon, HELLO)] == [LATE_HELLO]
    assert not daemon.has_hello
    (event,) = daemon_hears(daemon, ask(9))
    assert isinstance(event, Admitted)


@pytest.mark.parametrize("first", [encode_frame(77, b""), encode_frame(0, b"junk"), encode_frame(5, b"")])
def test_a_hello_is_late_even_after_a_frame_that_nobody_can_read(first: bytes) -> None:
    daemon = DaemonConnection()
    daemon.receive_data(first)
    assert isinstance(daemon.next_event(), Refused)
    assert [refusal(event) for event in daemon_hears(daemon, HELLO)] == [LATE_HELLO]


def test_a_second_hello_is_refused_and_changes_nothing() -> None:
    daemon = daemon_with_hello(ask(1, STREAM))
    assert [refusal(event) for event in daemon_hears(daemon, Hello(stream_window_bytes=5))] == [LATE_HELLO]
    assert daemon.has_hello
    assert daemon.window_bytes == 1000
    assert daemon.in_flight == 1


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (0, DEFAULT_WINDOW_BYTES),
        (1, 1),
        (5000, 5000),
        (MAX_WINDOW_BYTES, MAX_WINDOW_BYTES),
        (MAX_WINDOW_BYTES + 1, MAX_WINDOW_BYTES),
        (2**32 - 1, MAX_WINDOW_BYTES),
    ],
)
def test_every_stream_has_the_window_of_the_hello_within_reason(asked: int, granted: int) -> None:
    daemon = DaemonConnection()
    daemon_hears(daemon, Hello(stream_window_bytes=asked), ask(1, STREAM), ask(2, STREAM))
    assert daemon.window_bytes == granted
    assert daemon.window(1).take(2**40) == granted
    assert daemon.window(2).credit_bytes == granted


def test_a_stream_without_hello_is_refused_in_words_that_a_legacy_client_reads() -> None:
    daemon = DaemonConnection()
    (event,) = daemon_hears(daemon, ask(3, STREAM))
    assert refusal(event) == invalid("response_mode Stream needs a Hello first", 3)
    assert daemon.in_flight == 0
    assert [type(event) for event in daemon_hears(daemon, ask(3))] == [Admitted]


def test_a_client_without_hello_never_gets_a_frame_that_it_does_not_know() -> None:
    daemon = DaemonConnection()
    daemon_hears(daemon, ask(1))
    for message in (Hello(), GoAway(), CreditUpdate(credit_delta=1)):
        with pytest.raises(LocalProtocolError, match=rf"^{type(message).__name__} to a client that sent no Hello$"):
            daemon.send(message)
    for part_2 in (ResponseHead(request_id=1), BodyChunk(request_id=1), ResponseEnd(request_id=1)):
        with pytest.raises(LocalProtocolError, match=r"request 1 is in state answer awaited"):
            daemon.send(part_2)
    assert daemon.send(HealthCheckResponse(healthy=True))
    assert daemon.send(ExecuteResponse(request_id=1))
