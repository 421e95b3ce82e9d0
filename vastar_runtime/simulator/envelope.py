"""An error in the form of the API that its request belongs to."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from . import messages
from .api_error import ApiError


def error_response(request: HTTPConnection, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The error's response: in Anthropic's form where a request is to its API, in OpenAI's for all others."""
    return messages.error_response(error, headers) if speaks_anthropic(request) else error.response(headers)


def speaks_anthropic(request: HTTPConnection) -> bool:
    """Whether a request is to Anthropic's API; of the paths that both APIs have, its headers tell."""
    path: str = request.scope["path"]
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return "anthropic-version" in request.headers
    return path == messages.PATH or path.startswith(f"{messages.PATH}/")
