"""An error in the form of the API that its request belongs to."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from . import customers_api, issues_api, messages
from .api_error import ApiError

_CATALOG = {issues_api.ROOT: issues_api.error_response, customers_api.ROOT: customers_api.error_response}


def error_response(request: HTTPConnection, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The error's response: in the form of Anthropic's API or of the catalog's where a request is to one of these.

    All others have OpenAI's.
    """
    path: str = request.scope["path"]
    for root, respond in _CATALOG.items():
        if _is_below(root, path):
            return respond(error, headers)
    return messages.error_response(error, headers) if speaks_anthropic(request) else error.response(headers)


def speaks_anthropic(request: HTTPConnection) -> bool:
    """Whether a request is to Anthropic's API; of the paths that both APIs have, its headers tell."""
    path: str = request.scope["path"]
    if _is_below("/v1/models", path):
        return "anthropic-version" in request.headers
    return _is_below(messages.PATH, path)


def _is_below(root: str, path: str) -> bool:
    """Whether a path is the root or below it."""
    return path == root or path.startswith(f"{root}/")
