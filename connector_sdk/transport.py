"""Transports for httpx2 and httpx: what is built on them goes through the daemon.

    openai.OpenAI(http_client=httpx2.Client(transport=RuntimeTransport()))
    openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=AsyncRuntimeTransport()))

The same objects serve both libraries, which share no classes: an answer is in the terms of the library that asks.

- Redirects: the daemon follows them (at most 10), and the wire has no way to ask it not to. ``follow_redirects`` and
  ``max_redirects`` of the client therefore find nothing to do, ``response.history`` is empty, ``response.url`` is the
  URL that was asked for, and cookies set on the way are not seen.
- Timeouts: ``read`` limits the wait for each piece of the body; the longer of ``connect`` and ``read`` all that comes
  before the head, since the daemon does not say when it has connected; that ends in ReadTimeout. ConnectTimeout:
  the daemon took no connection within ``connect``, or the upstream none within the daemon's own limit. ``write`` and
  ``pool`` limit nothing.
- Errors are the library's, with the daemon's message, raised from the ``ConnectorException``. A refusal by the
  daemon's own rate limit is a response 429, with Retry-After and ``x-vastar-error-class: RateLimited``: callers know
  how to wait for that.
- A request's body is collected first: it travels in one frame, which ends at 10 MiB, headers and all.
- Of a request's ``extensions``, ``timeout`` is read. TLS and proxies are the daemon's business.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import math
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, cast

from .async_client import AsyncRuntimeClient
from .async_streaming import AsyncStreamedResponse
from .client import RuntimeClient
from .config import MAX_TIMEOUT_MS, RuntimeConfig
from .errors import ConnectorException
from .headers import Headers
from .http_payload import WaitLimits
from .httpx_errors import translated
from .models import HTTPRequest
from .streaming import StreamedResponse
from .wire import MAX_FRAME_BYTES, ErrorClass

if TYPE_CHECKING:  # neither library is needed where only the other one is
    from httpx2 import AsyncBaseTransport, BaseTransport, Request, Response
else:
    BaseTransport = AsyncBaseTransport = object

_LIBRARIES = ("httpx2", "httpx")


class RuntimeTransport(BaseTransport):
    """For ``httpx2.Client`` and ``httpx.Client``; see the module. Shared freely between threads, and survives fork.

    Closing it closes its connections; used after that, it opens new ones, as the libraries' own transports do.

    Args:
        config: copied; None: everything by default and from the environment. Its ``timeout_ms`` is not used.

    Raises:
        ImportError: neither library is installed.
        ConnectorException: INVALID_REQUEST, a setting that cannot be used.
    """

    def __init__(self, config: RuntimeConfig | None = None) -> None:
        _require_library()
        self._config = RuntimeConfig() if config is None else dataclasses.replace(config)
        self._client = RuntimeClient(self._config)

    def __enter__(self) -> RuntimeTransport:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RuntimeTransport {self._config.endpoint}>"

    def handle_request(self, request: Request) -> Response:
        """Send a request; the response is there with its head, its body follows as it comes.

        Raises:
            TransportError: of the request's library.
        """
        library = _library_of(request)
        body = _Collected(library)
        for piece in cast(Iterable[bytes], request.stream):  # the client has seen to it
            body.add(piece)
        try:
            response = self._client.open_stream(_asked(request, body, library), _limits(request))
        except ConnectorException as error:
            return _refused(error, library)
        return _answer(library, response.status_code, response.headers, _body_types(library)[0](response, library))

    def close(self) -> None:
        """Close the connections; exchanges that are running go on to their end."""
        client, self._client = self._client, RuntimeClient(self._config)
        client.close()


class AsyncRuntimeTransport(AsyncBaseTransport):
    """As ``RuntimeTransport``, for ``AsyncClient`` under asyncio and trio; many exchanges share one connection.

    Serves any number of event loops, one after another or at once.
    """

    def __init__(self, config: RuntimeConfig | None = None) -> None:
        _require_library()
        self._config = RuntimeConfig() if config is None else dataclasses.replace(config)
        self._client = AsyncRuntimeClient(self._config)

    async def __aenter__(self) -> AsyncRuntimeTransport:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncRuntimeTransport {self._config.endpoint}>"

    async def handle_async_request(self, request: Request) -> Response:
        """As ``RuntimeTransport.handle_request``."""
        library = _library_of(request)
        body = _Collected(library)
        pieces = aiter(cast(AsyncIterable[bytes], request.stream))
        try:
            async for piece in pieces:
                body.add(piece)
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:  # a generator that was not read to its end
                await close()
        try:
            response = await self._client.open_stream(_asked(request, body, library), _limits(request))
        except ConnectorException as error:
            return _refused(error, library)
        return _answer(library, response.status_code, response.headers, _body_types(library)[1](response, library))

    async def aclose(self) -> None:
        """Close the connections; exchanges that are running fail."""
        client, self._client = self._client, AsyncRuntimeClient(self._config)
        await client.aclose()


# --- the request ---


class _Collected:
    """A request's body, from its pieces."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_FRAME_BYTES:
            raise self._library.LocalProtocolError(
                f"the request's body exceeds {MAX_FRAME_BYTES} bytes: it travels to the daemon in one frame; "
                "send less at once"
            )
        self._pieces.append(piece)

    def whole(self) -> bytes:
        return b"".join(self._pieces)


def _asked(request: Request, body: _Collected, library: ModuleType) -> HTTPRequest:
    """The request for the daemon; only ``limits`` bound its time."""
    url = request.url
    headers = []
    for name, value in request.headers.raw:
        try:
            headers.append((name.decode("ascii"), value.decode()))
        except UnicodeDecodeError as error:
            raise library.LocalProtocolError(f"header {name!r} cannot be sent: it is not UTF-8") from error
    return HTTPRequest(
        method=request.method,
        url=(url.raw_scheme + b"://" + url.netloc + url.raw_path).decode("ascii"),
        headers=Headers(headers),
        body=body.whole(),
        timeout_ms=MAX_TIMEOUT_MS,
    )


def _limits(request: Request) -> WaitLimits:
    timeout: Mapping[str, float | None] = request.extensions.get("timeout", {})
    connect_s, read_s = timeout.get("connect"), timeout.get("read")
    return WaitLimits(
        connect_ms=_ms(connect_s),
        head_ms=None if read_s is None else _ms(max(connect_s or 0, read_s)),
        piece_ms=_ms(read_s),
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, math.ceil(min(seconds * 1000, MAX_TIMEOUT_MS)))


# --- the response ---


class _Body:
    """Mixed into the library's SyncByteStream."""

    def __init__(self, response: StreamedResponse, library: ModuleType) -> None:
        self._response = response
        self._library = library

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_bytes()
        except ConnectorException as error:
            raise translated(error, self._library) from error

    def close(self) -> None:
        self._response.close()


class _AsyncBody:
    """Mixed into the library's AsyncByteStream."""

    def __init__(self, response: AsyncStreamedResponse, library: ModuleType) -> None:
        self._response = response
        self._library = library

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._response.aiter_bytes())
        except ConnectorException as error:
            raise translated(error, self._library) from error

    async def aclose(self) -> None:
        self._response.close()


@functools.cache
def _body_types(library: ModuleType) -> tuple[type[_Body], type[_AsyncBody]]:
    """Both libraries insist on their own base classes."""
    return (
        type("RuntimeByteStream", (_Body, library.SyncByteStream), {}),
        type("AsyncRuntimeByteStream", (_AsyncBody, library.AsyncByteStream), {}),
    )


def _answer(library: ModuleType, status_code: int, headers: Headers, stream: _Body | _AsyncBody) -> Response:
    response: Response = library.Response(
        status_code,
        headers=[(name.encode(), value.encode()) for name, value in headers.multi_items()],
        stream=stream,
        extensions={"http_version": b"HTTP/1.1"},  # what the daemon speaks
    )
    return response


def _refused(error: ConnectorException, library: ModuleType) -> Response:
    """The answer to a request that got none: a response if its callers understand one, else the exception."""
    if error.error_class is not ErrorClass.RATE_LIMITED:
        raise translated(error, library) from error
    headers = {"content-type": "application/json", "x-vastar-error-class": "RateLimited"}
    if error.retry_after_ms:
        # Retry-After has whole seconds (RFC 9110, section 10.2.3); the openai and anthropic packages read the other.
        headers["retry-after"] = str(math.ceil(error.retry_after_ms / 1000))
        headers["retry-after-ms"] = str(error.retry_after_ms)
    # The error object of both APIs, OpenAI's and Anthropic's.
    fields = {"type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None, "message": error.message}
    body = json.dumps({"type": "error", "error": fields}).encode()
    response: Response = library.Response(429, headers=headers, content=body, extensions={"http_version": b"HTTP/1.1"})
    return response


# --- the library ---


def _require_library() -> None:
    if all(importlib.util.find_spec(name) is None for name in _LIBRARIES):
        raise ImportError("the transports need httpx2 or httpx: pip install vastar-runtime[httpx]")


def _library_of(request: object) -> ModuleType:
    for kind in type(request).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in _LIBRARIES:
            return sys.modules[name]
    raise TypeError(f"request must be a Request of httpx2 or httpx, not {type(request).__name__}")
