"""An error in the form of the API that its path belongs to."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from . import messages
from .api_error import ApiError


def in_envelope(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The error's response: Anthropic's form on its paths, OpenAI's on all others."""
    if path == messages.PATH or path.startswith(f"{messages.PATH}/"):
        return messages.error_response(error, headers)
    return error.response(headers)
