"""Chat completions of the OpenAI API, and of servers that speak it, through the daemon.

with OpenAIConnector("https://api.openai.com/v1", api_key) as openai:
    for text in openai.chat_completion_stream(ChatCompletionRequest("gpt-4o-mini", [Message("user", "Hello")])):
        ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .client import RuntimeClient
from .config import RuntimeConfig, check_timeout_ms, check_type
from .errors import APIError, ConnectorException
from .models import POST, HTTPRequest, HTTPResponse, HTTPResponseHelper
from .sse import iter_chat_text
from .wire.messages import ErrorClass

DEFAULT_BASE_URL = "http://localhost:4545"

# A long answer of a slow model takes minutes.
DEFAULT_TIMEOUT_MS = 300_000

# Any model proves the connection; of the hosted ones this is among the cheapest. Simulators take every name.
TEST_MODEL = "gpt-4o-mini"
_TEST_MAX_TOKENS = 16

_SHOWN_BODY_CHARACTERS = 200


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


class OpenAIConnector:
    """Chat completions over a client of its own. Safe to share between threads.

    Args:
        base_url: of the API, with or without "/v1" at its end.
        api_key: sent as bearer token, and never part of a message; None or "": no Authorization header.
        config: how to reach the daemon; None: everything by default and from the environment.
        timeout_ms: for one completion, from its request to its last byte.

    Raises:
        ConnectorException: INVALID_REQUEST, an argument that cannot be used.
        TypeError: an argument of the wrong type.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        api_key: str | None = None,
        *,
        config: RuntimeConfig | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> None:
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
        self._client = RuntimeClient(config)

    def __enter__(self) -> OpenAIConnector:
        self._client.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client; later calls raise."""
        self._client.close()

    def test_connection(self, model: str = TEST_MODEL) -> str:
        """Ask for a tiny completion and return its text.

        Raises:
            ConnectorException: as ``chat_completion``.
        """
        hello = [Message("user", "Hello")]
        return self.chat_completion(ChatCompletionRequest(model, hello, max_tokens=_TEST_MAX_TOKENS))

    def chat_completion(self, request: ChatCompletionRequest) -> str:
        """The text of the completion; "" when the model answered without any.

        Raises:
            APIError: the API answered with an error.
            ConnectorException: the API could not be reached, or its answer is no chat completion.
        """
        with self._key_hidden():
            response = self._client.execute_http(self._http_request(request, is_stream=False))
            _raise_for_status(response)
            return _completion_text(response)

    def chat_completion_stream(self, request: ChatCompletionRequest) -> Iterator[str]:
        """The texts of the completion, piece by piece; the request goes out with the first ``next()``.

        The daemon collects a stream before it answers: the pieces are those of the API, but they all come at its end.

        Raises:
            APIError: the API answered with an error, or reported one inside the stream.
            StreamError: the stream broke off inside an event, or is no chat stream.
            ConnectorException: the API could not be reached.
        """
        with self._key_hidden():
            response = self._client.execute_http(self._http_request(request, is_stream=True))
            _raise_for_status(response)
            if "application/json" in (HTTPResponseHelper.get_header(response, "content-type") or ""):
                yield _completion_text(response)  # a server that knows no streams
            else:
                yield from iter_chat_text([response.body])

    def _http_request(self, request: ChatCompletionRequest, *, is_stream: bool) -> HTTPRequest:
        check_type("request", request, ChatCompletionRequest)
        for message in request.messages:
            check_type("a message", message, Message, dict)
        body = {
            "model": request.model,
            "messages": [m if isinstance(m, dict) else dataclasses.asdict(m) for m in request.messages],
            "stream": is_stream,
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
    def _key_hidden(self) -> Iterator[None]:
        """Servers quote the key that they refuse, and an exception's message ends up in logs."""
        try:
            yield
        except ConnectorException as error:
            if self._api_key is not None:
                error.message = _without(self._api_key, error.message)
                error.args = (error.message, *error.args[1:])
            raise


def _without(key: str, text: str) -> str:
    # Its beginnings too, down to 8 characters: a message that shows the first part of a body may have cut it.
    for size in range(len(key), min(len(key), 8) - 1, -1):
        text = text.replace(key[:size], "[api key]")
    return text


def _raise_for_status(response: HTTPResponse) -> None:
    if not HTTPResponseHelper.is_2xx(response):
        error = _error_object(HTTPResponseHelper.get_body_as_string(response), response.status_code)
        raise APIError.from_error_object(error, response.status_code, response.request_id)


def _error_object(text: str, status: int) -> object:
    """The API's error in the body of an answer, or one made of the body when that is not in the API's form."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        if answer.get("error") is not None:
            return answer["error"]
        if "message" in answer:
            return answer
    shown = _shown(text)
    return f"the API answered with status {status}" + (f": {shown}" if shown else " and no body")


def _completion_text(response: HTTPResponse) -> str:
    try:
        answer = HTTPResponseHelper.get_body_as_json(response)
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise APIError.from_error_object(answer["error"], response.status_code, response.request_id)
        content = answer["choices"][0]["message"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        shown = _shown(HTTPResponseHelper.get_body_as_string(response))
        raise ConnectorException(
            f"the answer is no chat completion: {shown!r}; see whether the URL is that of the API",
            ErrorClass.PERMANENT,
            response.request_id,
        ) from error
    return content if isinstance(content, str) else ""


def _shown(text: str) -> str:
    return " ".join(text[:_SHOWN_BODY_CHARACTERS].split())
