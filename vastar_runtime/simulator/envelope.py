"""An error in the form of the API that its request belongs to."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from . import completion, connection_test, customers_api, embeddings, issues_api, messages, responses_api
from .api_error import ApiError

AZURE_ROOT = "/openai"

_OPENAI = (completion.PATH, responses_api.PATH, embeddings.PATH, connection_test.PATH, AZURE_ROOT)
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
    """Whether a request is to Anthropic's API; of paths that both APIs or neither have, its headers tell."""
    path: str = request.scope["path"]
    if _is_below(messages.PATH, path):
        return True
    is_elsewhere = any(_is_below(root, path) for root in (*_OPENAI, *_CATALOG))
    return not is_elsewhere and "anthropic-version" in request.headers


def needs_azure_version(request: HTTPConnection) -> bool:
    """Whether a request is to Azure's older API, whose queries say its version."""
    path: str = request.scope["path"]
    return _is_below(AZURE_ROOT, path) and not _is_below(f"{AZURE_ROOT}/v1", path)


def _is_below(root: str, path: str) -> bool:
    """Whether a path is the root or below it."""
    return path == root or path.startswith(f"{root}/")
