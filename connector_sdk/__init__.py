"""Build connectors on the Vastar Connector Runtime.

    from connector_sdk import GET, HTTPResponseHelper, RuntimeClient

    with RuntimeClient() as client:
        response = client.execute_http(GET("https://example.com/").with_timeout(5_000))
        if HTTPResponseHelper.is_2xx(response):
            text = HTTPResponseHelper.get_body_as_string(response)

The daemon must run (``vastar-runtime start``). Every failure is a ``ConnectorException``; chat completions are in
``connector_sdk.openai``.
"""

import importlib
from typing import TYPE_CHECKING

from .client import RuntimeClient
from .errors import APIError, ConnectorException, StreamError
from .headers import Headers
from .models import (
    DELETE,
    GET,
    PATCH,
    POST,
    PUT,
    ErrorClass,
    HTTPRequest,
    HTTPResponse,
    HTTPResponseHelper,
    RuntimeConfig,
)
from .retry import retry_with_backoff
from .sse import ServerSentEvent, SSEDecoder, SSEParser
from .streaming import StreamedResponse

if TYPE_CHECKING:
    from .async_client import AsyncRuntimeClient
    from .async_streaming import AsyncStreamedResponse
    from .transport import AsyncRuntimeTransport, RuntimeTransport

_LOADED_ON_FIRST_USE = {
    "AsyncRuntimeClient": ".async_client",
    "AsyncRuntimeTransport": ".transport",
    "AsyncStreamedResponse": ".async_streaming",
    "RuntimeTransport": ".transport",
}

__all__ = [
    "DELETE",
    "GET",
    "PATCH",
    "POST",
    "PUT",
    "APIError",
    "AsyncRuntimeClient",
    "AsyncRuntimeTransport",
    "AsyncStreamedResponse",
    "ConnectorException",
    "ErrorClass",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseHelper",
    "Headers",
    "RuntimeClient",
    "RuntimeConfig",
    "RuntimeTransport",
    "SSEDecoder",
    "SSEParser",
    "ServerSentEvent",
    "StreamError",
    "StreamedResponse",
    "retry_with_backoff",
]


def __getattr__(name: str) -> object:
    """The async client and the transports on first use: who does not use them does not load anyio."""
    if name in _LOADED_ON_FIRST_USE:
        return getattr(importlib.import_module(_LOADED_ON_FIRST_USE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
