"""An error in the form of the API that its request belongs to, the APIs of the catalog among them."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from . import customers_api, envelope, issues_api
from .api_error import ApiError

_APIS = {issues_api.ROOT: issues_api.error_response, customers_api.ROOT: customers_api.error_response}


def error_response(request: HTTPConnection, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The error's response."""
    path = request.scope["path"]
    for root, respond in _APIS.items():
        if path == root or path.startswith(f"{root}/"):
            return respond(error, headers)
    return envelope.error_response(request, error, headers)
