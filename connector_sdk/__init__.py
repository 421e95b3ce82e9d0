"""Build connectors on the Vastar Connector Runtime.

    from connector_sdk import GET, HTTPResponseHelper, RuntimeClient

    with RuntimeClient() as client:
        response = client.execute_http(GET("https://example.com/").with_timeout(5_000))
        if HTTPResponseHelper.is_2xx(response):
            text = HTTPResponseHelper.get_body_as_string(response)

The daemon must run (``vastar-runtime start``). Every failure is a ``ConnectorException``; chat completions are in
``connector_sdk.openai``.
"""

from .client import RuntimeClient
from .errors import APIError, ConnectorException, StreamError
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

__all__ = [
    "DELETE",
    "GET",
    "PATCH",
    "POST",
    "PUT",
    "APIError",
    "ConnectorException",
    "ErrorClass",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseHelper",
    "RuntimeClient",
    "RuntimeConfig",
    "SSEDecoder",
    "SSEParser",
    "ServerSentEvent",
    "StreamError",
    "retry_with_backoff",
]
