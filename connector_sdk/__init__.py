"""Build connectors on the Vastar Connector Runtime.

    from connector_sdk import GET, HTTPResponseHelper, RuntimeClient

    with RuntimeClient() as client:
        response = client.execute_http(GET("https://example.com/").with_timeout(5_000))
        if HTTPResponseHelper.is_2xx(response):
            text = HTTPResponseHelper.get_body_as_string(response)

The daemon must run (``vastar-runtime start``). Every failure is a ``ConnectorException``; chat completions are in
``connector_sdk.openai``.
"""

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
    from .async_client import AsyncRuntimeClient, AsyncStreamedResponse

__all__ = [
    "DELETE",
    "GET",
    "PATCH",
    "POST",
    "PUT",
    "APIError",
    "AsyncRuntimeClient",
    "AsyncStreamedResponse",
    "ConnectorException",
    "ErrorClass",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseHelper",
    "Headers",
    "RuntimeClient",
    "RuntimeConfig",
    "SSEDecoder",
    "SSEParser",
    "ServerSentEvent",
    "StreamError",
    "StreamedResponse",
    "retry_with_backoff",
]


def __getattr__(name: str) -> object:
    """The async client on first use: who does not use it does not load anyio."""
    if name in ("AsyncRuntimeClient", "AsyncStreamedResponse"):
        from . import async_client

        return getattr(async_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
