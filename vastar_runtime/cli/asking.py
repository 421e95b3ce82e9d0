"""One question to a daemon, and its answer."""

import socket
import time
from typing import TypeVar

from connector_sdk.wire import (
    ExecuteRequest,
    ExecuteResponse,
    FrameDecoder,
    HealthCheckResponse,
    Message,
    ProtocolError,
    decode_message,
    encode_message,
)
from vastar_runtime import exact_json
from vastar_runtime.errors import StartupError

from .printing import printable

_RECEIVE_BYTES = 65536
_MAX_WORDS_CHARACTERS = 256
REQUEST_ID = 1
NOT_UNDERSTOOD = "answers what is no answer to this version of the command"

Answer = TypeVar("Answer")


class NoAnswer(StartupError):
    """The daemon took the question, and the time for an answer is over."""


class Refused(StartupError):
    """The daemon answers, and does not do what it was asked for."""


def ask(client: socket.socket, question: Message, deadline: float) -> HealthCheckResponse | ExecuteResponse:
    """Send a message and read until its answer is there.

    Args:
        client: connected.
        deadline: of ``time.monotonic``.

    Raises:
        OSError: TimeoutError, ConnectionResetError when the daemon closes, or what the socket says.
        ProtocolError: what came is no answer.
    """
    client.settimeout(max(0.001, deadline - time.monotonic()))
    client.sendall(encode_message(question))
    decoder = FrameDecoder()
    while True:
        while (frame := decoder.next_frame()) is not None:
            message = decode_message(*frame)
            if isinstance(message, HealthCheckResponse | ExecuteResponse):
                return message
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        client.settimeout(left_s)
        data = client.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        decoder.receive_data(data)


def ask_runtime(socket_path: str, operation: str, timeout_s: float, answer_type: type[Answer]) -> Answer:
    """What the daemon answers about itself (``vastar_runtime.connectors.runtime``), as this type.

    Raises:
        Refused: it does not do it, in its words; or a runtime that does not know the question.
        NoAnswer: it said nothing in time.
        StartupError: it cannot be asked, or its answer cannot be read.
    """
    request = ExecuteRequest(request_id=REQUEST_ID, tenant_id="", connector_name="runtime", operation=operation)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(socket_path)
            answer = ask(client, request, time.monotonic() + timeout_s)
    except TimeoutError as error:
        raise NoAnswer(f"the daemon on {socket_path} did not answer within {timeout_s:g} s") from error
    except (OSError, ProtocolError) as error:
        reason = str(error) or "it closed the connection"
        raise StartupError(f"the daemon on {socket_path} cannot be asked: {reason}") from error
    if isinstance(answer, ExecuteResponse) and not answer.error_class and answer.payload is not None:
        try:
            return exact_json.decode(answer.payload, answer_type)
        except ValueError as error:
            raise StartupError(f"the daemon on {socket_path} {NOT_UNDERSTOOD}") from error
    words = printable(answer.error_message or "", _MAX_WORDS_CHARACTERS) if isinstance(answer, ExecuteResponse) else ""
    raise Refused(f"the daemon on {socket_path} refuses: {words or 'it gives no reason'}")
