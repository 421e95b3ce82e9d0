"""Either end in the state that a story begins with; what it hears, and what it says."""

from typing import Any

from connector_sdk.wire import (
    ErrorClass,
    ExecuteRequest,
    ExecuteResponse,
    FrameDecoder,
    Hello,
    Message,
    ResponseMode,
    decode_message,
    encode_message,
)
from connector_sdk.wire.client_connection import ClientConnection
from connector_sdk.wire.daemon_connection import Admitted, DaemonConnection, DaemonEvent, Refused
from connector_sdk.wire.flow import DEFAULT_WINDOW_BYTES

BUFFERED, STREAM = ResponseMode.BUFFERED, ResponseMode.STREAM
HELLO = Hello(protocol_version=1, agent="test", stream_window_bytes=1000)


def ask(request_id: int = 1, mode: ResponseMode = BUFFERED, **more: Any) -> ExecuteRequest:
    fields = {"tenant_id": "t", "connector_name": "http", "operation": "request"} | more
    return ExecuteRequest(request_id=request_id, response_mode=mode, **fields)


def daemon_hears(daemon: DaemonConnection, *messages: Message) -> list[DaemonEvent]:
    daemon.receive_data(b"".join(encode_message(message) for message in messages))
    return list(iter(daemon.next_event, None))


def daemon_with_hello(*messages: Message) -> DaemonConnection:
    daemon = DaemonConnection()
    assert daemon_hears(daemon, HELLO) == [HELLO]
    for message in messages:
        (event,) = daemon_hears(daemon, message)
        assert isinstance(event, Admitted)
    return daemon


def refusal(event: DaemonEvent) -> tuple[type[Message], int, ErrorClass, str | None]:
    assert isinstance(event, Refused)
    return type(event.answer), event.answer.request_id, event.answer.error_class, event.answer.error_message


def invalid(message: str, request_id: int = 0) -> tuple[type[Message], int, ErrorClass, str]:
    return ExecuteResponse, request_id, ErrorClass.INVALID_REQUEST, message


# What the existing runtime says to a frame that it does not know.
LEGACY_ANSWER = ExecuteResponse(
    request_id=0, error_class=ErrorClass.INVALID_REQUEST, error_message="Invalid FlatBuffers message"
)


def client_hears(client: ClientConnection, *messages: Message) -> None:
    """Feed the messages; each must come out as it is."""
    for message in messages:
        client.receive_data(encode_message(message))
        assert client.next_event() == message
    assert client.next_event() is None


def client_of_the_daemon(window_bytes: int = DEFAULT_WINDOW_BYTES) -> ClientConnection:
    client = ClientConnection("test", window_bytes)
    client_hears(client, Hello(protocol_version=1))
    return client


def client_of_the_existing_runtime() -> ClientConnection:
    client = ClientConnection("test")
    client_hears(client, LEGACY_ANSWER)
    return client


def said(data: bytes) -> list[Message]:
    decoder = FrameDecoder()
    decoder.receive_data(data)
    messages = []
    while (frame := decoder.next_frame()) is not None:
        messages.append(decode_message(*frame))
    assert not decoder.is_mid_frame
    return messages
