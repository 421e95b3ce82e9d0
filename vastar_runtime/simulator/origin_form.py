"""Requests as to a proxy, ``GET http://host/path``: RFC 9112, 3.2.2 has every server take them."""

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")


class OriginForm:
    """ASGI middleware: what is inside sees the path alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if found := _AUTHORITY.match(scope["raw_path"]):
            path = scope["raw_path"][found.end() :] or b"/"
            scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
        await self._app(scope, receive, send)
