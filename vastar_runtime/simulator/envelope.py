"""An error in the form of the API that its request belongs to."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from . import messages
from .api_error import ApiError


def in_envelope(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The error's response: Anthropic's form on its paths, OpenAI's on all others."""
    return messages.error_response(error, headers) if _is_anthropics(path) else error.response(headers)


def error_response(request: HTTPConnection, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The same; of the paths that both APIs have, the form is the one that the request's headers speak of."""
    if speaks_anthropic(request):
        return messages.error_response(error, headers)
    return in_envelope(request.scope["path"], error, headers)


def speaks_anthropic(request: HTTPConnection) -> bool:
    """Whether a request is to Anthropic's API."""
    path = request.scope["path"]
    has_both = path == "/v1/models" or path.startswith("/v1/models/")
    return _is_anthropics(path) or (has_both and "anthropic-version" in request.headers)


def _is_anthropics(path: str) -> bool:
    return path == messages.PATH or path.startswith(f"{messages.PATH}/")
