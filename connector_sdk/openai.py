"""Chat completions of the OpenAI API, and of servers that speak it, through the daemon.

with OpenAIConnector("https://api.openai.com/v1", api_key) as openai:
    for text in openai.chat_completion_stream(ChatCompletionRequest("gpt-4o-mini", [Message("user", "Hello")])):
        ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .chat import ChatChunk, ChatDelta, ToolCallDelta, Usage, chat_chunk, chat_usage
from .client import RuntimeClient
from .config import RuntimeConfig, check_timeout_ms, check_type
from .errors import APIError, ConnectorException
from .models import POST, HTTPRequest
from .sse import iter_chat_objects
from .streaming import StreamedResponse
from .wire.messages import ErrorClass

__all__ = [
    "ChatChunk",
    "ChatCompletionRequest",
    "ChatDelta",
    "Message",
    "OpenAIConnector",
    "ToolCallDelta",
    "Usage",
]

DEFAULT_BASE_URL = "http://localhost:4545"

# A long answer of a slow model takes minutes.
DEFAULT_TIMEOUT_MS = 300_000

# Any model proves the connection; of the hosted ones this is among the cheapest. Simulators take every name.
TEST_MODEL = "gpt-4o-mini"
_TEST_MAX_TOKENS = 16

_SHOWN_BODY_CHARACTERS = 200
# An answer that is no stream is held whole.
_MAX_ANSWER_BYTES = 10 * 1024 * 1024
# How long after [DONE] the end of the response may take before the request is cancelled.
_END_GRACE_MS = 50
_MAX_REST_BYTES = 64 * 1024


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

    Attributes:
        last_usage: the tokens of the completion or stream that ended last; None when the API told none.

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
        self.last_usage: Usage | None = None

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
        self.last_usage = None
        with self._key_hidden():
            response = self._client.execute_http(self._http_request(request, is_stream=False))
            answer = _completion(response.status_code, response.body, response.request_id)
            self.last_usage = chat_usage(answer)
            return chat_chunk(answer).delta.content or ""

    def chat_completion_stream(self, request: ChatCompletionRequest) -> Generator[str, None, None]:
        """The texts of the completion as they come; the request goes out with the first ``next()``.

        Closing the iterator, or leaving a loop over it, cancels the completion at the API.

        Raises:
            APIError: the API answered with an error, or reported one inside the stream.
            StreamError: the stream broke off inside an event, or is no chat stream.
            ConnectorException: the API could not be reached, or the connection to it broke off.
        """
        with contextlib.closing(self.stream_chunks(request)) as chunks:
            for chunk in chunks:
                if chunk.delta.content:
                    yield chunk.delta.content

    def stream_chunks(self, request: ChatCompletionRequest) -> Generator[ChatChunk, None, None]:
        """The chunks of the completion as they come, tool calls, finish reason and usage among them.

        A server that knows no streams gives one chunk. Otherwise as ``chat_completion_stream``.
        """
        self.last_usage = None
        with self._key_hidden(), self._client.stream_http(self._http_request(request, is_stream=True)) as response:
            if not 200 <= response.status_code < 300 or "application/json" in response.headers.get("content-type", ""):
                answers = iter([_completion(response.status_code, _read_some(response), response.request_id)])
            else:
                answers = iter_chat_objects(response.iter_bytes())
            for answer in answers:
                chunk = chat_chunk(answer)
                self.last_usage = chunk.usage or self.last_usage
                yield chunk
            _end(response)

    def _http_request(self, request: ChatCompletionRequest, *, is_stream: bool) -> HTTPRequest:
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


def _completion(status: int, body: bytes, request_id: int) -> dict[str, Any]:
    """The completion that an answer holds; its first choice has a message."""
    text = body.decode(errors="replace")
    if not 200 <= status < 300:
        raise APIError.from_error_object(_error_object(text, status), status, request_id)
    try:
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise APIError.from_error_object(answer["error"], status, request_id)
        if not isinstance(answer["choices"][0]["message"], dict):
            raise TypeError("message is no object")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConnectorException(
            f"the answer is no chat completion: {_shown(text)!r}; see whether the URL is that of the API",
            ErrorClass.PERMANENT,
            request_id,
        ) from error
    completion: dict[str, Any] = answer
    return completion


def _read_some(response: StreamedResponse) -> bytes:
    """The body, or as much of it as an answer of the API can have."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            break
    return bytes(body[:_MAX_ANSWER_BYTES])


def _end(response: StreamedResponse) -> None:
    """After the last chunk the upstream's end is near: waiting for it saves its connection, which a cancel costs."""
    response.end_within(_END_GRACE_MS)
    rest_bytes = 0
    with contextlib.suppress(ConnectorException):  # the completion is there, however its stream ends
        for piece in response.iter_bytes():
            rest_bytes += len(piece)
            if rest_bytes > _MAX_REST_BYTES:
                return


def _shown(text: str) -> str:
    return " ".join(text[:_SHOWN_BODY_CHARACTERS].split())
