"""The simulator as an ASGI application. It knows no server and no socket; serve.py gives it both."""

import contextlib
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from . import completion, connection_test, customers_api, embeddings, issues_api, messages, responses_api
from .api_error import ApiError
from .body import drop_body
from .envelope import AZURE_ROOT, error_response
from .handlers import Handlers
from .settings import SimulatorSettings

_DEPLOYMENT = AZURE_ROOT + "/deployments/{deployment}"


def create_app(settings: SimulatorSettings) -> Starlette:
    """The application.

    It has OpenAI's chat completions, responses, embeddings and models, on Azure's paths too, Anthropic's messages and
    models, and two APIs that are no model's: issues and customers. Errors have the envelope of the API of their path.
    ``POST /test_completion`` and ``settings.rai`` are as in the existing RAI endpoint simulator. ``GET /health``
    answers ``{"status": "ok"}``.

    Raises:
        StartupError: there are no texts to answer with.
    """
    handlers = Handlers(settings)
    app = Starlette(
        routes=[
            *_openai_routes(handlers, "", settings.rai),
            Route(messages.PATH, handlers.conversation(messages.parse, messages.answer), methods=["POST"]),
            Route(messages.COUNT_PATH, handlers.message_count, methods=["POST"]),
            *_openai_routes(handlers, AZURE_ROOT, settings.rai),
            *_azure_routes(handlers),
            Route(connection_test.PATH, handlers.test_completion, methods=["POST"]),
            Route("/health", handlers.health, methods=["GET"]),
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


def _openai_routes(handlers: Handlers, root: str, is_rai: bool) -> list[Route]:
    """OpenAI's API, which Azure has as it is, under a root of its own."""
    chat = handlers.rai_chat if is_rai else handlers.conversation(completion.parse, completion.answer)
    responses = handlers.conversation(responses_api.parse, responses_api.answer)
    return [
        Route(root + completion.PATH, chat, methods=["POST"]),
        Route(root + responses_api.PATH, responses, methods=["POST"]),
        Route(root + embeddings.PATH, handlers.embedding_list, methods=["POST"]),
        Route(f"{root}/v1/models", handlers.model_list, methods=["GET"]),
        Route(root + "/v1/models/{name:path}", handlers.model, methods=["GET"]),
    ]


def _azure_routes(handlers: Handlers) -> list[Route]:
    """Azure's older API, whose queries say its version."""
    responses = handlers.conversation(responses_api.parse, responses_api.answer)
    return [
        Route(f"{_DEPLOYMENT}/chat/completions", handlers.deployment_chat, methods=["POST"]),
        Route(f"{_DEPLOYMENT}/embeddings", handlers.deployment_embeddings, methods=["POST"]),
        Route(f"{AZURE_ROOT}/responses", responses, methods=["POST"]),
        Route(f"{AZURE_ROOT}/models", handlers.model_list, methods=["GET"]),
        Route(AZURE_ROOT + "/models/{name:path}", handlers.model, methods=["GET"]),
    ]


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(request, error)


async def _no_such_route(request: Request, error: Exception) -> Response:
    """The router's 404 and 405, after the body: see read_body."""
    assert isinstance(error, HTTPException)
    try:
        with contextlib.suppress(ClientDisconnect):
            await drop_body(request)
    except ApiError as refusal:
        return error_response(request, refusal)
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
