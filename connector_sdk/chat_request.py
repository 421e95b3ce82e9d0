"""What a chat completion asks the API for, as an HTTP request. No I/O: both connectors share it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .config import check_timeout_ms, check_type
from .errors import ConnectorException
from .models import POST, HTTPRequest
from .wire.messages import ErrorClass

DEFAULT_BASE_URL = "http://localhost:4545"

# A long answer of a slow model takes minutes.
DEFAULT_TIMEOUT_MS = 300_000

# Any model proves the connection; of the hosted ones this is among the cheapest. Simulators take every name.
TEST_MODEL = "gpt-4o-mini"
_TEST_MAX_TOKENS = 16


@dataclass
class Message:
    """One message of a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        content: its text.
    """

    role: str
    content: str


@dataclass
class ChatCompletionRequest:
    """What to complete.

    Attributes:
        model: its name.
        messages: the conversation, oldest first; a dict in the API's own form is taken too.
        stream: for compatibility with the existing SDK; the method called decides.
        max_tokens: at most so many in the answer; None: the API's default.
        temperature: None: the API's default.
    """

    model: str
    messages: Sequence[Message | dict[str, Any]]
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None


def tiny_request(model: str) -> ChatCompletionRequest:
    """What proves a connection and costs next to nothing."""
    return ChatCompletionRequest(model, [Message("user", "Hello")], max_tokens=_TEST_MAX_TOKENS)


class ChatEndpoint:
    """Where completions are asked for, and with which key.

    Args:
        base_url: of the API, with or without "/v1" at its end.
        api_key: None or "": no Authorization header.
        timeout_ms: for one completion, from its request to its last byte.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_ms: int) -> None:
        check_type("base_url", base_url, str)
        check_type("api_key", api_key, str, type(None))
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConnectorException(
                "api_key: it holds a space, a line break or another character that no key has (not shown here)",
                ErrorClass.INVALID_REQUEST,
            )
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key or None
        self._timeout_ms = check_timeout_ms("timeout_ms", timeout_ms)

    def http_request(self, request: ChatCompletionRequest, *, is_stream: bool) -> HTTPRequest:
        """The request for a completion.

        Raises:
            TypeError: ``request`` or one of its messages has the wrong type.
        """
        check_type("request", request, ChatCompletionRequest)
        for message in request.messages:
            check_type("a message", message, Message, dict)
        body = {
            "model": request.model,
            "messages": [m if isinstance(m, dict) else dataclasses.asdict(m) for m in request.messages],
            "stream": is_stream,
            "stream_options": {"include_usage": True} if is_stream else None,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        path = "/chat/completions" if self._base_url.endswith("/v1") else "/v1/chat/completions"
        http_request = (
            POST(self._base_url + path)
            .with_json({name: value for name, value in body.items() if value is not None})
            .with_header("Accept", "text/event-stream" if is_stream else "application/json")
            .with_timeout(self._timeout_ms)
        )
        if self._api_key is None:
            return http_request
        return http_request.with_header("Authorization", f"Bearer {self._api_key}")

    @contextlib.contextmanager
    def key_hidden(self) -> Iterator[None]:
        """Servers quote the key that they refuse, and exceptions, with what caused them, end up in logs."""
        try:
            yield
        except ConnectorException as error:
            cause: BaseException | None = error
            while self._api_key is not None and cause is not None:
                _hide(self._api_key, cause)
                cause = cause.__cause__
            raise


def _hide(key: str, error: BaseException) -> None:
    for name, value in list(vars(error).items()):
        if isinstance(value, str):
            setattr(error, name, _without(key, value))
    error.args = tuple(_without(key, value) if isinstance(value, str) else value for value in error.args)


def _without(key: str, text: str) -> str:
    # Its beginnings too, down to 8 characters: a message that shows the first part of a body may have cut it.
    for size in range(len(key), min(len(key), 8) - 1, -1):
        text = text.replace(key[:size], "[api key]")
    return text
