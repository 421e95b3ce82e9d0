"""The simulator's endpoints: from a request with a body to a response."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import chat_request, completion, connection_test, embeddings, messages, rai
from .api_error import ApiError, new_request_id
from .body import read_body
from .envelope import needs_azure_version, speaks_anthropic
from .event_stream import EventStream
from .keys import KeyCheck
from .models import Models
from .pace import Pace
from .reply import Asked, Reply
from .settings import SimulatorSettings
from .sources import source_of
from .voice import Voice
from .work import Work, is_large

_AZURE_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")

Endpoint = Callable[[Request], Awaitable[Response]]


class _Named(Protocol):
    """A request to a model."""

    @property
    def model(self) -> str: ...


class _Conversation(_Named, Protocol):
    """A request of any API that continues a conversation."""

    @property
    def stream(self) -> bool | None: ...
    @property
    def asked(self) -> Asked: ...


class _Answer(Protocol):
    """The answer in the form of that API."""

    def as_json(self) -> dict[str, Any]: ...
    def as_events(self) -> Iterator[bytes]: ...


_N = TypeVar("_N", bound=_Named)
_R = TypeVar("_R", bound=_Conversation)


class Handlers:
    """The endpoints, each of which reads the whole body before it refuses anything: see read_body."""

    def __init__(self, settings: SimulatorSettings) -> None:
        """Raises StartupError when there are no texts to answer with."""
        self._settings = settings
        self._voice = Voice(source_of(settings))
        self._models = Models(settings.models)
        self._work = Work()
        self.check_key = KeyCheck(settings.require_key)

    # --- conversations ---

    def conversation(self, parse: Callable[[bytes], _R], answer: Callable[[_R, Reply], _Answer]) -> Endpoint:
        """The endpoint of an API that continues conversations."""

        async def endpoint(request: Request) -> Response:
            body = await self._admitted(request)
            return await self._answered(request, body, self._existing(parse), answer)

        return endpoint

    async def deployment_chat(self, request: Request) -> Response:
        body, deployment = await self._deployment(request)
        parse = partial(chat_request.parse_for_deployment, deployment=deployment)
        return await self._answered(request, body, parse, completion.answer)

    async def rai_chat(self, request: Request) -> Response:
        body = await self._admitted(request)
        reply = await self._work.done(is_large(body), lambda: self._voice.reply(rai.asked(body)))
        return self._event_stream(request, rai.as_events(reply))

    async def test_completion(self, request: Request) -> Response:
        body = await self._admitted(request)
        if self._settings.rai or not connection_test.is_chat(body):
            return await self._whole(request, msgspec.json.encode(connection_test.fixed_completion()))
        return await self._answered(request, body, self._existing(completion.parse), completion.answer)

    async def message_count(self, request: Request) -> Response:
        body = await self._admitted(request)

        def counted() -> int:
            return self._voice.count(self._existing(messages.parse_count)(body).asked)

        return _json(request, {"input_tokens": await self._work.done(is_large(body), counted)})

    def _existing(self, parse: Callable[[bytes], _N]) -> Callable[[bytes], _N]:
        """The same for requests to models that exist."""

        def parse_existing(body: bytes) -> _N:
            asking = parse(body)
            self._models.check(asking.model)
            return asking

        return parse_existing

    async def _answered(
        self, request: Request, body: bytes, parse: Callable[[bytes], _R], answer: Callable[[_R, Reply], _Answer]
    ) -> Response:
        def read() -> tuple[_R, Asked]:
            asking = parse(body)
            return asking, asking.asked

        def made() -> Iterator[bytes] | bytes:
            answered = answer(asking, self._voice.reply(asked))
            return answered.as_events() if asking.stream else msgspec.json.encode(answered.as_json())

        asking, asked = await self._work.done(is_large(body), read)
        found = await self._work.done(is_large(body) or asked.may_need_sample, made)
        return await self._whole(request, found) if isinstance(found, bytes) else self._event_stream(request, found)

    # --- the rest of the APIs ---

    async def embedding_list(self, request: Request) -> Response:
        return await self._embedded(request, await self._admitted(request), self._existing(embeddings.parse))

    async def deployment_embeddings(self, request: Request) -> Response:
        body, deployment = await self._deployment(request)
        return await self._embedded(request, body, partial(embeddings.parse_for_deployment, deployment=deployment))

    async def _embedded(
        self, request: Request, body: bytes, parse: Callable[[bytes], embeddings.EmbeddingsRequest]
    ) -> Response:
        # A single short text has thousands of numbers.
        found = await self._work.done(True, lambda: msgspec.json.encode(embeddings.embed(parse(body))))
        return await self._whole(request, found)

    async def model_list(self, request: Request) -> Response:
        await self._admitted(request)
        if speaks_anthropic(request):
            return _json(request, self._models.anthropic_list(request.query_params))
        return _json(request, self._models.list())

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not name:
            raise HTTPException(404)
        await self._admitted(request)
        self._models.check(name)
        return _json(request, (self._models.anthropic_one if speaks_anthropic(request) else self._models.one)(name))

    async def health(self, request: Request) -> Response:
        """Whether it is up, in the word that is expected of it."""
        return _json(request, {"status": "healthy" if self._settings.rai else "ok"})

    # --- requests and responses ---

    async def _admitted(self, request: Request) -> bytes:
        """The body of a request that has the key and speaks the API's version."""
        body = await read_body(request)
        self.check_key(request)
        if speaks_anthropic(request):
            messages.check_version(request.headers)
        if needs_azure_version(request):
            _check_azure_version(request)
        return body

    async def _deployment(self, request: Request) -> tuple[bytes, str]:
        """The body of a request to Azure, and the name of the deployment."""
        body = await self._admitted(request)
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

    async def _whole(self, request: Request, data: bytes) -> Response:
        if pause_s := Pace(self._settings).first_s():
            await _pause(request, pause_s)
        return Response(data, media_type="application/json", headers=_request_id(request))

    def _event_stream(self, request: Request, events: Iterable[bytes]) -> Response:
        headers = _request_id(request) | {"cache-control": "no-cache"}
        return EventStream(events, Pace(self._settings), headers)


def _check_azure_version(request: Request) -> None:
    """Raises ApiError, status 404, unless the query says a version of Azure's API."""
    version = request.query_params.get("api-version", "")
    if not _AZURE_VERSION.fullmatch(version):
        said = f"not {version[:40]!r}" if version else "none is there"
        raise ApiError(
            404, f"Resource not found: the query needs an api-version such as 2024-10-21, {said}.", code="404"
        )


async def _pause(request: Request, pause_s: float) -> None:
    """Raises ClientDisconnect as soon as the client leaves: what it waited for would be kept for so long."""
    has_left = False
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            nonlocal has_left
            while (await request.receive())["type"] != "http.disconnect":
                pass
            has_left = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await trio.sleep(pause_s)
        nursery.cancel_scope.cancel()
    if has_left:
        raise ClientDisconnect


def _json(request: Request, value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=_request_id(request))


def _request_id(request: Request) -> dict[str, str]:
    name = "request-id" if speaks_anthropic(request) else "x-request-id"
    return {name: new_request_id()}
