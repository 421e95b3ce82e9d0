"""The simulator as an ASGI application. It knows no server and no socket; serve.py gives it both."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from . import (
    chat_request,
    completion,
    connection_test,
    customers_api,
    embeddings,
    issues_api,
    messages,
    rai,
    responses_api,
)
from .api_error import ApiError, new_request_id
from .body import read_body
from .envelope import error_response, speaks_anthropic
from .keys import AZURE_ROOT, KeyCheck
from .models import Models
from .pace import Pace, Paced
from .reply import Asked, Reply
from .settings import SimulatorSettings
from .sources import source_of
from .voice import Voice

_AZURE_DEPLOYMENT = AZURE_ROOT + "deployments/{deployment}"
_AZURE_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")

_Endpoint = Callable[[Request], Awaitable[Response]]


class _Conversation(Protocol):
    """A request of any API that continues a conversation."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def asked(self) -> Asked: ...


class _Answer(Protocol):
    """The answer in the form of that API."""

    def as_json(self) -> dict[str, Any]: ...
    def as_events(self) -> Iterator[bytes]: ...


_R = TypeVar("_R", bound=_Conversation)


def create_app(settings: SimulatorSettings) -> Starlette:
    """The application.

    It has OpenAI's chat completions, responses, embeddings and models, Azure's paths of the first and third,
    Anthropic's messages and models, and two APIs that are no model's: issues and customers. Errors have the envelope of
    the API of their path. ``POST /test_completion`` and ``settings.rai`` are as in the existing RAI endpoint simulator.
    ``GET /health`` answers ``{"status": "ok"}``.

    Raises:
        StartupError: there are no texts to answer with.
    """
    handlers = _Handlers(settings)
    chat = handlers.rai_chat if settings.rai else handlers.conversation(completion.parse, completion.answer)
    app = Starlette(
        routes=[
            Route(completion.PATH, chat, methods=["POST"]),
            Route(
                responses_api.PATH, handlers.conversation(responses_api.parse, responses_api.answer), methods=["POST"]
            ),
            Route(messages.PATH, handlers.conversation(messages.parse, messages.answer), methods=["POST"]),
            Route(messages.COUNT_PATH, handlers.message_count, methods=["POST"]),
            Route(embeddings.PATH, handlers.embedding_list, methods=["POST"]),
            Route("/v1/models", handlers.model_list, methods=["GET"]),
            Route("/v1/models/{name:path}", handlers.model, methods=["GET"]),
            Route(f"{_AZURE_DEPLOYMENT}/chat/completions", handlers.deployment_chat, methods=["POST"]),
            Route(f"{_AZURE_DEPLOYMENT}/embeddings", handlers.deployment_embeddings, methods=["POST"]),
            Route(connection_test.PATH, handlers.test_completion, methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
            *issues_api.routes(handlers.check_key),
            *customers_api.routes(handlers.check_key),
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


class _Handlers:
    """The endpoints, each of which reads the whole body before it refuses anything: see read_body."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._voice = Voice(source_of(settings))
        self._models = Models(settings.models)
        self.check_key = KeyCheck(settings.require_key)

    def conversation(self, parse: Callable[[bytes], _R], answer: Callable[[_R, Reply], _Answer]) -> _Endpoint:
        """The endpoint of an API that continues conversations."""

        async def endpoint(request: Request) -> Response:
            asking = parse(await self._admitted(request))
            self._models.check(asking.model)
            return await self._answered(request, asking, answer)

        return endpoint

    async def deployment_chat(self, request: Request) -> Response:
        body, deployment = await self._deployment(request)
        return await self._answered(request, chat_request.parse_for_deployment(body, deployment), completion.answer)

    async def rai_chat(self, request: Request) -> Response:
        reply = self._voice.reply(rai.asked(await self._admitted(request)))
        return self._event_stream(request, rai.as_events(reply))

    async def test_completion(self, request: Request) -> Response:
        body = await self._admitted(request)
        if self._settings.rai or not connection_test.is_chat(body):
            return await self._whole(request, connection_test.fixed_completion())
        asking = completion.parse(body)
        self._models.check(asking.model)
        return await self._answered(request, asking, completion.answer)

    async def message_count(self, request: Request) -> Response:
        asking = messages.parse_count(await self._admitted(request))
        self._models.check(asking.model)
        tokens = self._voice.count(asking.asked)
        return _json(request, {"input_tokens": tokens})

    async def embedding_list(self, request: Request) -> Response:
        asking = embeddings.parse(await self._admitted(request))
        self._models.check(asking.model)
        return await self._embedded(request, asking)

    async def deployment_embeddings(self, request: Request) -> Response:
        body, deployment = await self._deployment(request)
        return await self._embedded(request, embeddings.parse_for_deployment(body, deployment))

    async def model_list(self, request: Request) -> Response:
        await self._admitted(request)
        if speaks_anthropic(request):
            return _json(request, self._models.anthropic_list(request.query_params))
        return _json(request, self._models.list())

    async def model(self, request: Request) -> Response:
        await self._admitted(request)
        name = request.path_params["name"]
        self._models.check(name)
        return _json(request, (self._models.anthropic_one if speaks_anthropic(request) else self._models.one)(name))

    async def _admitted(self, request: Request) -> bytes:
        """The body of a request that has the key and speaks the API's version."""
        body = await read_body(request)
        self.check_key(request)
        if speaks_anthropic(request):
            messages.check_version(request.headers)
        return body

    async def _deployment(self, request: Request) -> tuple[bytes, str]:
        """The body of a request to Azure, and the name of the deployment."""
        body = await self._admitted(request)
        version = request.query_params.get("api-version", "")
        if not _AZURE_VERSION.fullmatch(version):
            said = f"not {version[:40]!r}" if version else "none is there"
            raise ApiError(
                404, f"Resource not found: the query needs an api-version such as 2024-10-21, {said}.", code="404"
            )
        deployment: str = request.path_params["deployment"]
        try:
            self._models.check(deployment)
        except ApiError as error:
            if error.code != "model_not_found":
                raise
            raise ApiError(
                404, "The API deployment for this resource does not exist.", code="DeploymentNotFound"
            ) from error
        return body, deployment

    async def _answered(self, request: Request, asking: _R, answer: Callable[[_R, Reply], _Answer]) -> Response:
        answered = answer(asking, self._voice.reply(asking.asked))
        if asking.stream:
            return self._event_stream(request, answered.as_events())
        return await self._whole(request, answered.as_json())

    async def _embedded(self, request: Request, asking: embeddings.EmbeddingsRequest) -> Response:
        # The largest takes about a second, in which streams go on.
        found = await anyio.to_thread.run_sync(partial(embeddings.embed, asking))
        return await self._whole(request, found)

    async def _whole(self, request: Request, value: dict[str, Any]) -> Response:
        if pause_s := Pace(self._settings).first_s():
            await _pause(request, pause_s)
        return _json(request, value)

    def _event_stream(self, request: Request, events: Iterable[bytes]) -> Response:
        headers = _request_id(request) | {"cache-control": "no-cache"}
        return StreamingResponse(Paced(events, Pace(self._settings)), media_type="text/event-stream", headers=headers)


async def _pause(request: Request, pause_s: float) -> None:
    """Raises ClientDisconnect as soon as the client leaves: what it waited for would be kept for so long."""
    has_left = False
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal has_left
            while (await request.receive())["type"] != "http.disconnect":
                pass
            has_left = True
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await anyio.sleep(pause_s)
        tasks.cancel_scope.cancel()
    if has_left:
        raise ClientDisconnect


def _json(request: Request, value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=_request_id(request))


def _request_id(request: Request) -> dict[str, str]:
    name = "request-id" if speaks_anthropic(request) else "x-request-id"
    return {name: new_request_id()}


async def _health(request: Request) -> Response:
    return _json(request, {"status": "ok"})


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(request, error)


async def _no_such_route(request: Request, error: Exception) -> Response:
    """The router's 404 and 405, after the body: see read_body."""
    assert isinstance(error, HTTPException)
    with contextlib.suppress(ClientDisconnect):
        async for _ in request.stream():
            pass
    path = request.scope["path"]
    headers: Mapping[str, str] | None = error.headers
    if error.status_code == 405:
        answer = ApiError(405, f"{request.method} is not allowed on {path}.", code="method_not_supported")
    else:
        answer = ApiError(error.status_code, f"Invalid URL ({request.method} {path}).")
    return error_response(request, answer, headers)


async def _client_gone(request: Request, error: Exception) -> Response:
    """The client left before its request was complete: nobody reads this, and it is no fault to report."""
    return Response(status_code=400)


async def _internal_error(request: Request, error: Exception) -> Response:
    failure = ApiError(500, "The simulator failed; its error output says why.", type="server_error")
    return error_response(request, failure)
