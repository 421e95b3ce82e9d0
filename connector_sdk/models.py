"""What goes in and comes out: requests (whole, or built with ``GET(url).with_header(...)``) and responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from .config import RuntimeConfig
from .error_answer import Asked, is_error, no_json, status_error
from .errors import ConnectorException
from .wire.messages import ErrorClass

__all__ = [
    "DELETE",
    "GET",
    "PATCH",
    "POST",
    "PUT",
    "ErrorClass",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseHelper",
    "RuntimeConfig",
]


@dataclass
class HTTPRequest:
    """One HTTP request for the daemon to run. The ``with_`` methods return a changed copy.

    Attributes:
        method: any case.
        url: absolute, http or https.
        headers: name to value.
        body: bytes as they are, or text (sent as UTF-8).
        timeout_ms: for the whole exchange; None: the client's default.
        tenant_id, workspace_id: None: the client's defaults.
        trace_id: shows in the daemon's log.
    """

    method: str
    url: str
    # Headers and bodies carry keys and personal data; repr() ends up in logs.
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    body: bytes | str | None = field(default=None, repr=False)
    timeout_ms: int | None = None
    tenant_id: str | None = None
    workspace_id: str | None = None
    trace_id: str | None = None

    def with_header(self, name: str, value: str) -> HTTPRequest:
        """With this header; one of the same name, in any case, is replaced."""
        kept = {key: old for key, old in (self.headers or {}).items() if key.lower() != name.lower()}
        return replace(self, headers={**kept, name: value})

    def with_json(self, value: Any) -> HTTPRequest:
        """With ``value`` as JSON body, and Content-Type application/json unless one is set.

        Raises:
            ConnectorException: INVALID_REQUEST, a number that JSON does not have (NaN), text that is not Unicode,
                a value that contains itself.
            TypeError: a value of a type that JSON does not have.
        """
        try:
            body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError) as error:
            raise ConnectorException(f"JSON body: {error}", ErrorClass.INVALID_REQUEST) from error
        request = replace(self, body=body)
        if any(name.lower() == "content-type" for name in self.headers or {}):
            return request
        return request.with_header("Content-Type", "application/json")

    def with_body(self, body: bytes | str) -> HTTPRequest:
        """With this body."""
        return replace(self, body=body)

    def with_timeout(self, timeout_ms: int) -> HTTPRequest:
        """With this timeout in milliseconds."""
        return replace(self, timeout_ms=timeout_ms)

    def with_tenant_id(self, tenant_id: str) -> HTTPRequest:
        """On behalf of this tenant."""
        return replace(self, tenant_id=tenant_id)

    def with_workspace_id(self, workspace_id: str) -> HTTPRequest:
        """On behalf of this workspace."""
        return replace(self, workspace_id=workspace_id)

    def with_trace_id(self, trace_id: str) -> HTTPRequest:
        """With this trace id."""
        return replace(self, trace_id=trace_id)


def GET(url: str) -> HTTPRequest:
    """A GET request to build on."""
    return HTTPRequest("GET", url)


def POST(url: str) -> HTTPRequest:
    """A POST request to build on."""
    return HTTPRequest("POST", url)


def PUT(url: str) -> HTTPRequest:
    """A PUT request to build on."""
    return HTTPRequest("PUT", url)


def PATCH(url: str) -> HTTPRequest:
    """A PATCH request to build on."""
    return HTTPRequest("PATCH", url)


def DELETE(url: str) -> HTTPRequest:
    """A DELETE request to build on."""
    return HTTPRequest("DELETE", url)


@dataclass
class HTTPResponse:
    """What the upstream answered; any status, 4xx and 5xx too.

    Attributes:
        request_id: the request's id on its connection.
        status_code: HTTP status.
        headers: lower-case name to value; a repeated header joined with ", " (Set-Cookie: "\\n").
        body: the exact bytes.
        duration_us: what the daemon took, in microseconds.
        error_class: SUCCESS: every other class is raised.
        error_message: None with SUCCESS.
        attempts: how often the daemon tried to send the request; 0: it never did, or did not say.
        asked: what it answers, for messages; None in a response that was made by hand.
    """

    request_id: int
    status_code: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    duration_us: int
    error_class: ErrorClass
    error_message: str | None = None
    attempts: int = 0
    asked: Asked | None = field(default=None, repr=False, compare=False)

    def raise_for_status(self) -> Self:
        """The response itself, unless its status is an error; 2xx and 3xx are none.

        Raises:
            APIError: RATE_LIMITED for 429, TIMEOUT for 408, TRANSIENT for 5xx, else PERMANENT; with ``status``,
                ``retry_after_ms`` as the answer's headers have it, and the beginning of its body in the message.
        """
        if is_error(self.status_code):
            raise status_error(self, self.body)
        return self

    def json(self) -> Any:
        """The body's JSON value.

        Raises:
            ConnectorException: PERMANENT, the body is not JSON, or is nested too deeply.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise no_json(self, self.body, error) from error


class HTTPResponseHelper:
    """Questions to a response."""

    @staticmethod
    def is_2xx(response: HTTPResponse) -> bool:
        """True for success."""
        return 200 <= response.status_code < 300

    @staticmethod
    def is_3xx(response: HTTPResponse) -> bool:
        """True for a redirection (one that could not be followed)."""
        return 300 <= response.status_code < 400

    @staticmethod
    def is_4xx(response: HTTPResponse) -> bool:
        """True for an error of the client."""
        return 400 <= response.status_code < 500

    @staticmethod
    def is_5xx(response: HTTPResponse) -> bool:
        """True for an error of the server."""
        return 500 <= response.status_code < 600

    @staticmethod
    def get_body_as_string(response: HTTPResponse, encoding: str = "utf-8") -> str:
        """The body as text; bytes that ``encoding`` cannot read become U+FFFD, as in the existing SDK.

        Raises:
            LookupError: an encoding that does not exist.
        """
        return response.body.decode(encoding, errors="replace")

    @staticmethod
    def get_body_as_json(response: HTTPResponse) -> Any:
        """The body's JSON value.

        Raises:
            ValueError: the body is not JSON (``json.JSONDecodeError``), or is nested too deeply.
        """
        try:
            return json.loads(response.body)
        except RecursionError as error:
            raise ValueError("the body is JSON nested too deeply to be read") from error

    @staticmethod
    def get_header(response: HTTPResponse, name: str) -> str | None:
        """The value of the header, whatever the case of ``name``; None when there is none."""
        wanted = name.lower()
        return next((value for key, value in response.headers.items() if key.lower() == wanted), None)
