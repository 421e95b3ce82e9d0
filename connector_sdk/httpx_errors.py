"""A ConnectorException as the exception that httpx2 or httpx raises for the same fault."""

from __future__ import annotations

import re
from types import ModuleType

from .errors import ConnectorException
from .wire import ErrorClass

# By what the daemon says happened: one error class holds faults that httpx has several types for.
_TYPES = tuple(
    (re.compile(words), name)
    for words, name in (
        (r"lost the connection to the daemon ", "ReadError"),
        (r"HTTP request failed: connecting to \S+ .*took longer ", "ConnectTimeout"),
        (r"HTTP request timed out: .* while connecting to ", "ConnectTimeout"),
        (r"HTTP request failed: (cannot connect to|DNS lookup of) ", "ConnectError"),
        (r"HTTP request failed: (the TLS \w+ (of|with) |TLS cannot be set up)", "ConnectError"),
        (r"HTTP request failed: the proxy ", "ProxyError"),
        (r"HTTP request failed: the connection to \S+ .*was reset ", "ReadError"),
        (r"HTTP request failed: the (\w+ )?response body from ", "DecodingError"),
        (r"HTTP request failed: stopped after \d+ redirects", "TooManyRedirects"),
        (r"unsupported URL scheme|malformed URL: it has no scheme", "UnsupportedProtocol"),
    )
)


def translated(error: ConnectorException, library: ModuleType) -> Exception:
    """The library's exception, with the message of ``error``.

    Args:
        library: httpx2 or httpx.
    """
    exception: Exception = getattr(library, _type_name(error))(error.message)
    return exception


def _type_name(error: ConnectorException) -> str:
    for words, name in _TYPES:
        if error.request_id and words.match(error.message):
            return name
    match error.error_class:
        case ErrorClass.INVALID_REQUEST:
            return "LocalProtocolError"
        case ErrorClass.TIMEOUT:
            return "ReadTimeout" if error.request_id else "ConnectTimeout"
        case ErrorClass.CANCELLED:
            return "ReadError"
    if error.request_id == 0 or (error.error_class is ErrorClass.TRANSIENT and error.attempts == 0):
        return "ConnectError"  # the daemon could not be reached, or has sent nothing to the upstream
    return "RemoteProtocolError"
