"""The life of an exchange, cell by cell: what the daemon may say in each state, judged alike by both ends."""

from collections.abc import Callable
from itertools import product

import pytest

from connector_sdk.wire import (
    BodyChunk,
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    Hello,
    LocalProtocolError,
    Message,
    RemoteProtocolError,
    ResponseEnd,
    ResponseHead,
    ResponseMode,
    encode_message,
)
from connector_sdk.wire.client_connection import ClientConnection
from connector_sdk.wire.daemon_connection import Admitted, DaemonConnection

ID = 7
MESSAGES: tuple[Message, ...] = (
    ResponseHead(request_id=ID, status_code=200),
    BodyChunk(request_id=ID, data=b"piece"),
    ResponseEnd(request_id=ID, error_class=ErrorClass.PERMANENT, error_message="cut"),
    ExecuteResponse(request_id=ID, payload=b"{}"),
)
HEAD, CHUNK, END, ANSWER = MESSAGES

# protocol.md part 2, rules 3 and 4; None: the message has no place.
TABLE: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    #                HEAD  CHUNK   END     ANSWER
    "never asked": (None, None, None, None),
    "buffered": (None, None, None, "ended"),
    "stream": ("body", None, "ended", "ended"),
    "body": (None, "body", "ended", None),
    "ended": (None, None, None, None),
}
PATHS: dict[str, tuple[ResponseMode | None, tuple[Message, ...]]] = {
    "never asked": (None, ()),
    "buffered": (ResponseMode.BUFFERED, ()),
    "stream": (ResponseMode.STREAM, ()),
    "body": (ResponseMode.STREAM, (HEAD,)),
    "ended": (ResponseMode.STREAM, (HEAD, END)),
}
IN_FLIGHT = {"never asked": 0, "buffered": 1, "stream": 1, "body": 1, "ended": 0}

every_cell = pytest.mark.parametrize(
    ("state", "message"),
    tuple(product(TABLE, MESSAGES)),
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)


def request(mode: ResponseMode) -> ExecuteRequest:
    return ExecuteRequest(request_id=ID, tenant_id="t", connector_name="http", operation="request", response_mode=mode)


def client_in(state: str) -> ClientConnection:
    mode, messages = PATHS[state]
    client = ClientConnection("test")
    client.receive_data(encode_message(Hello(protocol_version=1)))
    assert isinstance(client.next_event(), Hello)
    if mode is not None:
        client.send(request(mode))
    for message in messages:
        client.receive_data(encode_message(message))
        assert client.next_event() == message
    return client


def daemon_in(state: str) -> DaemonConnection:
    mode, messages = PATHS[state]
    daemon = DaemonConnection()
    daemon.receive_data(encode_message(Hello(protocol_version=1)))
    assert isinstance(daemon.next_event(), Hello)
    if mode is not None:
        daemon.receive_data(encode_message(request(mode)))
        assert isinstance(daemon.next_event(), Admitted)
    for message in messages:
        assert daemon.send(message) == encode_message(message)
    return daemon


def allowed(attempt: Callable[[Message], object], error: type[Exception], message: Message) -> bool:
    try:
        attempt(message)
    except error as refusal:
        text = str(refusal)
    else:
        return True
    assert f"request {ID}" in text
    assert type(message).__name__ in text
    return False


def client_takes(client: ClientConnection, message: Message) -> bool:
    def attempt(message: Message) -> None:
        client.receive_data(encode_message(message))
        assert client.next_event() == message

    return allowed(attempt, RemoteProtocolError, message)


def daemon_sends(daemon: DaemonConnection, message: Message) -> bool:
    return allowed(daemon.send, LocalProtocolError, message)


@every_cell
def test_the_client_takes_what_has_a_place_and_no_more(state: str, message: Message) -> None:
    client = client_in(state)
    following = TABLE[state][MESSAGES.index(message)]
    assert client_takes(client, message) is (following is not None)
    assert client.in_flight == IN_FLIGHT[following or state]


@every_cell
def test_the_daemon_sends_what_has_a_place_and_no_more(state: str, message: Message) -> None:
    daemon = daemon_in(state)
    following = TABLE[state][MESSAGES.index(message)]
    assert daemon_sends(daemon, message) is (following is not None)
    assert daemon.in_flight == IN_FLIGHT[following or state]


@every_cell
def test_the_state_after_a_message_is_the_one_of_the_table_at_both_ends(state: str, message: Message) -> None:
    """Also after one that was refused: the daemon's own mistake leaves the exchange where it was."""
    following = TABLE[state][MESSAGES.index(message)]
    for next_message, place in zip(MESSAGES, TABLE[following or state], strict=True):
        daemon = daemon_in(state)
        daemon_sends(daemon, message)
        assert daemon_sends(daemon, next_message) is (place is not None)
        if following is not None:
            client = client_in(state)
            client_takes(client, message)
            assert client_takes(client, next_message) is (place is not None)


@pytest.mark.parametrize("terminal", [END, ANSWER], ids=["ResponseEnd", "ExecuteResponse"])
@pytest.mark.parametrize("second", [END, ANSWER], ids=["ResponseEnd", "ExecuteResponse"])
def test_a_second_terminal_message_is_an_error_of_whoever_sends_it(terminal: Message, second: Message) -> None:
    daemon, client = daemon_in("stream"), client_in("stream")
    client.receive_data(daemon.send(terminal) + encode_message(second))
    with pytest.raises(LocalProtocolError, match=rf"^{type(second).__name__}: request 7 is not in flight$"):
        daemon.send(second)
    assert client.next_event() == terminal
    with pytest.raises(RemoteProtocolError, match=rf"^{type(second).__name__} for request 7, which is not in flight$"):
        client.next_event()


def test_errors_name_the_state_that_the_exchange_is_in() -> None:
    with pytest.raises(LocalProtocolError, match=r"^BodyChunk: request 7 is in state head awaited$"):
        daemon_in("stream").send(CHUNK)
    client = client_in("stream")
    client.receive_data(encode_message(CHUNK))
    with pytest.raises(RemoteProtocolError, match=r"^BodyChunk for request 7 in state head awaited$"):
        client.next_event()


def test_an_id_may_be_used_again_when_its_exchange_has_ended() -> None:
    client, daemon = client_in("ended"), daemon_in("ended")
    daemon.receive_data(client.send(request(ResponseMode.BUFFERED)))
    assert isinstance(daemon.next_event(), Admitted)
    client.receive_data(daemon.send(ANSWER))
    assert client.next_event() == ANSWER
    assert client.in_flight == daemon.in_flight == 0


def test_a_message_that_cannot_be_encoded_leaves_the_exchange_as_it_was() -> None:
    """An answer too long for a frame is followed by one that says so."""
    daemon = daemon_in("buffered")
    with pytest.raises(LocalProtocolError, match=r"exceeds the limit of 10485760"):
        daemon.send(ExecuteResponse(request_id=ID, payload=bytes(10 * 1024 * 1024)))
    assert daemon.in_flight == 1
    assert daemon_sends(daemon, ANSWER)


def test_many_exchanges_on_one_connection_go_on_by_themselves() -> None:
    client, daemon = client_in("never asked"), daemon_in("never asked")
    for request_id in range(1, 41):
        mode = ResponseMode.STREAM if request_id % 2 else ResponseMode.BUFFERED
        daemon.receive_data(
            client.send(
                ExecuteRequest(
                    request_id=request_id, tenant_id="t", connector_name="c", operation="o", response_mode=mode
                )
            )
        )
        assert isinstance(daemon.next_event(), Admitted)
    for request_id in range(40, 0, -1):
        if request_id % 2:
            client.receive_data(daemon.send(ResponseHead(request_id=request_id)))
            assert client.next_event() == ResponseHead(request_id=request_id)
            terminal: Message = ResponseEnd(request_id=request_id)
        else:
            terminal = ExecuteResponse(request_id=request_id)
        client.receive_data(daemon.send(terminal))
        assert client.next_event() == terminal
        assert client.in_flight == daemon.in_flight == request_id - 1
