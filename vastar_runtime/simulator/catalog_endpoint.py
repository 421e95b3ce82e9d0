"""One path of the catalog's APIs: body, method, key, and errors in the API's own form.

The application's router would refuse methods and paths in the form of another API.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .api_error import ApiError
from .body import read_body
from .request import parse_as

# What is created is kept until the simulator ends.
MAX_BODY_BYTES = 64 * 1024

KeyCheck = Callable[[Request], None]
Handler = Callable[[Request, bytes], Response]


class ErrorResponse(Protocol):
    """Makes an error's response in the form of one API."""

    def __call__(self, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse: ...


class Endpoint:
    """An ASGI application for the methods of one path."""

    def __init__(self, handlers: Mapping[str, Handler], error_response: ErrorResponse, check_key: KeyCheck) -> None:
        """The endpoint.

        Args:
            handlers: by method; each is called with a request that has a key, and its body.
            check_key: raises ApiError for a key that is not the right one.
        """
        self._handlers = handlers
        self._error_response = error_response
        self._check_key = check_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await read_body(request)
        except ClientDisconnect:
            return
        except ApiError as error:
            await self._error_response(error)(scope, receive, send)
            return
        await self._response(request, body)(scope, receive, send)

    def _response(self, request: Request, body: bytes) -> Response:
        handler = self._handlers.get("GET" if request.method == "HEAD" else request.method)
        try:
            if handler is None:
                raise ApiError(405, f"{request.method} is not allowed on {request.scope['path']}.")
            self._check_bearer(request)
            if len(body) > MAX_BODY_BYTES:
                raise ApiError(413, f"The body has {len(body)} bytes; this endpoint takes {MAX_BODY_BYTES} at most.")
            return handler(request, body)
        except ApiError as error:
            allowed = {"allow": ", ".join(self._handlers)} if error.status == 405 else None
            return self._error_response(error, allowed)

    def _check_bearer(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(401, "No key provided; send it in the header Authorization: Bearer KEY.")
        self._check_key(request)


def endpoint_routes(
    root: str, paths: Mapping[str, Mapping[str, Handler]], error_response: ErrorResponse, check_key: KeyCheck
) -> list[Route]:
    """The routes of one API.

    Args:
        root: what it has no path for below this is not found, in its own form.
        paths: the handlers of each, by method.
        check_key: raises ApiError for a key that is not the right one.
    """
    nothing = dict.fromkeys(("GET", "POST", "PATCH", "PUT", "DELETE"), _not_found)
    return [
        Route(path, Endpoint(handlers, error_response, check_key))
        for path, handlers in [*paths.items(), (f"{root}/{{rest:path}}", nothing)]
    ]


def _not_found(request: Request, body: bytes) -> Response:
    raise ApiError(404, f"Invalid URL ({request.method} {request.scope['path']}).")


def json_object(body: bytes) -> dict[str, object]:
    """The JSON object in ``body``.

    Raises:
        ApiError: status 400.
    """
    value = parse_as(object, body, ())
    if not isinstance(value, dict):
        raise ApiError(400, "The body is no JSON object.")
    return value
