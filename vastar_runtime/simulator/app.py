"""The simulator as an ASGI application. It knows no server and no socket; serve.py gives it both."""

import contextlib
import hmac
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import get_args

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import answers, messages
from .api_error import ApiError, simulated_error
from .completion import complete
from .envelope import in_envelope
from .request import parse, parse_as

# A conversation of a million tokens of English has about this size.
MAX_BODY_BYTES = 4 * 1024 * 1024

# An answer of some fifty words then streams for about one second.
DEFAULT_CHUNK_DELAY_MS = 20


def create_app(*, require_key: str | None = None, chunk_delay_ms: int = DEFAULT_CHUNK_DELAY_MS) -> Starlette:
    """The application.

    ``POST /v1/chat/completions`` and ``POST /test_completion`` do the same: they answer a chat completion request
    with a ``chat.completion`` object or, when it says ``"stream": true``, with a stream of chunks.
    ``POST /v1/messages`` answers as Anthropic's API, errors too; all other errors have the envelope of the OpenAI API.
    ``GET /health`` answers ``{"status": "ok"}``.

    Args:
        require_key: the key that completions demand, as bearer or in x-api-key; None demands none.
        chunk_delay_ms: the pause between two chunks of a stream; 0 makes none.
    """
    texts = answers.load_texts()

    async def chat_completion(request: Request) -> Response:
        body = await _read_body(request)
        if require_key is not None:
            _check_key(request, require_key)
        chat = parse(body)
        if error := simulated_error(chat.model):
            raise error
        completion = complete(chat, texts)
        return event_stream(completion.as_events()) if chat.stream else JSONResponse(completion.as_json())

    async def message(request: Request) -> Response:
        body = await _read_body(request)
        if require_key is not None:
            _check_key(request, require_key)
        asked = parse_as(messages.MessagesRequest, body, get_args(messages.Role))
        if error := simulated_error(asked.model):
            raise error
        reply = messages.reply(asked, texts)
        return event_stream(reply.as_events()) if asked.stream else JSONResponse(reply.as_json())

    def event_stream(events: Iterable[bytes]) -> Response:
        return StreamingResponse(
            _Paced(events, chunk_delay_ms / 1000),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache"},
        )

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completion, methods=["POST"]),
            Route("/test_completion", chat_completion, methods=["POST"]),
            Route(messages.PATH, message, methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _no_such_route,
            ClientDisconnect: _client_gone,
            Exception: _internal_error,
        },
    )
    # The API knows a path or does not; it never redirects one.
    app.router.redirect_slashes = False
    return app


class _Paced(AsyncIterator[bytes]):
    """Chunks with a pause between them.

    Not an async generator: when the client vanishes, one would be left half run for the garbage collector to finalise,
    which trio warns about.
    """

    def __init__(self, chunks: Iterable[bytes], delay_s: float) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._delay_s = delay_s
        self._started = False

    async def __anext__(self) -> bytes:
        if self._started:
            await anyio.sleep(self._delay_s)
        self._started = True
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def _read_body(request: Request) -> bytes:
    """The whole body; one over the limit is read on to its end and dropped.

    An answer before the end of the body would close the connection under a client that is still sending, and such a
    client often sees the reset and not the answer.
    """
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
    if size > MAX_BODY_BYTES:
        raise ApiError(413, f"The body has {size} bytes; the simulator takes {MAX_BODY_BYTES} at most.")
    return bytes(body)


def _check_key(request: Request, key: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if request.scope["path"] == messages.PATH and "x-api-key" in request.headers:
        scheme, given = "bearer", request.headers["x-api-key"]
    if scheme.lower() != "bearer" or not given.strip():
        problem = "No API key provided; send it in the header Authorization: Bearer KEY."
    # Both as the bytes they were: headers are decoded as Latin-1, arguments of a command with surrogateescape.
    elif not hmac.compare_digest(given.strip().encode("latin-1"), key.encode("utf-8", "surrogateescape")):
        problem = "Incorrect API key provided; it is not the one that the simulator was started with."
    else:
        return
    raise ApiError(401, problem, code="invalid_api_key")


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return in_envelope(request.scope["path"], error)


async def _no_such_route(request: Request, error: Exception) -> Response:
    """The router's 404 and 405, after the body: see _read_body."""
    assert isinstance(error, HTTPException)
    with contextlib.suppress(ClientDisconnect):
        async for _ in request.stream():
            pass
    path = request.scope["path"]
    if error.status_code == 405:
        answer = ApiError(405, f"{request.method} is not allowed on {path}.", code="method_not_supported")
    else:
        answer = ApiError(error.status_code, f"Invalid URL ({request.method} {path}).")
    return in_envelope(path, answer, error.headers)


async def _client_gone(request: Request, error: Exception) -> Response:
    """The client left before its request was complete: nobody reads this, and it is no fault to report."""
    return Response(status_code=400)


async def _internal_error(request: Request, error: Exception) -> Response:
    failure = ApiError(500, "The simulator failed; its error output says why.", type="server_error")
    return in_envelope(request.scope["path"], failure)
