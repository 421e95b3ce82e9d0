"""One line in the log for each request, where the level is info or below."""

import logging
from urllib.parse import quote

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_PATH_CHARS = 200

_log = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware: ``POST /v1/chat/completions 200 in 12 ms``, when the answer is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        begin = trio.current_time()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # A path is whatever the client wrote, line breaks among it.
            path = quote(scope["path"])[:MAX_PATH_CHARS]
            took_ms = (trio.current_time() - begin) * 1000
            _log.info("%s %s %s in %.0f ms", scope["method"], path, status or "failed", took_ms)
