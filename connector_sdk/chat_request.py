"""What a chat completion asks the API for, as an HTTP request. No I/O: both connectors share it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .azure import AzureDeployment, azure_endpoint
from .config import check_timeout_ms, check_type, invalid
from .errors import ConnectorException
from .models import POST, HTTPRequest
from .wire.messages import ErrorClass

DEFAULT_BASE_URL = "http://localhost:4545"

# A long answer of a slow model takes minutes.
DEFAULT_TIMEOUT_MS = 300_000

# Any model proves the connection; of the hosted ones this is among the cheapest. Simulators take every name.
TEST_MODEL = "gpt-4o-mini"
_TEST_MAX_TOKENS = 16

# Of a key that is hidden wherever it stands; a shorter one may be part of words.
_MIN_KEY_CHARACTERS = 8


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
        model: its name; None: the connector's.
        messages: the conversation, oldest first; a dict in the API's own form is taken too.
        stream: for compatibility with the existing SDK; the method called decides.
        max_tokens: at most so many in the answer; None: as the connector has it, else the API.
        temperature: None: as the connector has it, else the API.
        extra: what else the API takes, in its own form, such as ``{"tools": [...]}``. It wins over all others but
            ``stream``; None leaves a field out.
    """

    model: str | None = None
    messages: Sequence[Message | dict[str, Any]] = ()
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] | None = None


def tiny_request(model: str | None) -> ChatCompletionRequest:
    """What proves a connection and costs next to nothing."""
    return ChatCompletionRequest(model, [Message("user", "Hello")], max_tokens=_TEST_MAX_TOKENS)


@dataclass(frozen=True)
class RequestDefaults:
    """What completions have that say nothing else; None: what the API has.

    Attributes:
        timeout_ms: for one completion, its retries and the waits between them included.

    Raises:
        ConnectorException: INVALID_REQUEST, a value that cannot be used.
        TypeError: a value of another type.
    """

    timeout_ms: int = DEFAULT_TIMEOUT_MS
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_timeout_ms("timeout_ms", self.timeout_ms)
        check_type("model", self.model, str, type(None))
        check_type("max_tokens", self.max_tokens, int, type(None))
        check_type("temperature", self.temperature, int, float, type(None))
        if self.model == "":
            raise invalid("model", self.model, "the name of a model")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise invalid("max_tokens", self.max_tokens, "a number from 1")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise invalid("temperature", self.temperature, "a number from 0")


class ChatEndpoint:
    """Where completions are asked for, and with which key.

    Args:
        base_url: of the API, with or without "/v1" at its end; of an Azure resource.
        api_key: None or "": no header with a key.
        azure: which deployment there; None: it is no Azure resource.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    def __init__(
        self, base_url: str, api_key: str | None, defaults: RequestDefaults, azure: AzureDeployment | None = None
    ) -> None:
        check_type("base_url", base_url, str)
        check_type("api_key", api_key, str, type(None))
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConnectorException(
                "api_key: it holds a space, a line break or another character that no key has (not shown here)",
                ErrorClass.INVALID_REQUEST,
            )
        self.defaults = defaults
        self.base_url = base_url
        self._azure = azure
        self._api_key = api_key or None
        self._url = _chat_url(base_url.rstrip("/")) if azure is None else azure.url(azure_endpoint(base_url))

    @property
    def is_azure(self) -> bool:
        """True for a deployment at Azure, which is one model."""
        return self._azure is not None

    def model_of(self, request: ChatCompletionRequest) -> str:
        """The model that a request asks for; "" when an Azure deployment decides."""
        return request.model or self.defaults.model or ""

    def http_request(self, request: ChatCompletionRequest, *, is_stream: bool) -> HTTPRequest:
        """The request for a completion.

        Raises:
            ConnectorException: INVALID_REQUEST, neither it nor the defaults name a model.
            TypeError: ``request`` or one of its messages has the wrong type.
        """
        check_type("request", request, ChatCompletionRequest)
        for message in request.messages:
            check_type("a message", message, Message, dict)
        model = self.model_of(request)
        if not model and self._azure is None:
            raise ConnectorException(
                "model: the request names none, and the connector has none: OpenAIConnector(…, model=…)",
                ErrorClass.INVALID_REQUEST,
            )
        check_type("extra", request.extra, Mapping, type(None))
        defaults = self.defaults
        asks_usage = is_stream and (self._azure is None or self._azure.tells_stream_usage)
        body = {
            "model": model or None,
            "messages": [m if isinstance(m, dict) else dataclasses.asdict(m) for m in request.messages],
            "stream": is_stream,
            "stream_options": {"include_usage": True} if asks_usage else None,
            "max_tokens": defaults.max_tokens if request.max_tokens is None else request.max_tokens,
            "temperature": defaults.temperature if request.temperature is None else request.temperature,
        }
        body |= {**(request.extra or {}), "stream": is_stream}
        http_request = (
            POST(self._url)
            .with_json({name: value for name, value in body.items() if value is not None})
            .with_header("Accept", "text/event-stream" if is_stream else "application/json")
        )
        if self._api_key is None:
            return http_request
        if self._azure is not None:
            return http_request.with_header("api-key", self._api_key)
        return http_request.with_header("Authorization", f"Bearer {self._api_key}")

    @contextlib.contextmanager
    def key_hidden(self) -> Iterator[None]:
        """As ``hide_key``, for what the block raises."""
        try:
            yield
        except ConnectorException as error:
            self.hide_key(error)
            raise

    def hide_key(self, error: ConnectorException) -> None:
        """Servers quote the key that they refuse, and exceptions, with what caused them, end up in logs."""
        cause: BaseException | None = error
        while self._api_key is not None and cause is not None:
            _hide(self._api_key, cause)
            cause = cause.__cause__


def _chat_url(base_url: str) -> str:
    return base_url + ("/chat/completions" if base_url.endswith("/v1") else "/v1/chat/completions")


def _hide(key: str, error: BaseException) -> None:
    for name, value in list(vars(error).items()):
        if isinstance(value, str):
            setattr(error, name, _without(key, value))
    error.args = tuple(_without(key, value) if isinstance(value, str) else value for value in error.args)


def _without(key: str, text: str) -> str:
    if len(key) < _MIN_KEY_CHARACTERS:
        return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "[api key]", text)  # "any" is in many a word
    # Its beginnings too: a message that shows the first part of a body may have cut it.
    for size in range(len(key), _MIN_KEY_CHARACTERS - 1, -1):
        text = text.replace(key[:size], "[api key]")
    return text
