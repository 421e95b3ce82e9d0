"""What the simulator received: ``GET /__sim/requests`` shows it, ``DELETE /__sim/requests`` forgets it.

It shows headers as they came, keys too: the simulator is a tool for tests that listens on loopback, and which key
arrived is among what a test wants to know. Do not let it listen where others can connect, with keys that count.
"""

import contextlib
import re
from collections import deque

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_error import ApiError
from .connection import Connection, connection_of
from .journal_entry import Ended, Entry

ROOT = "/__sim"
PATH = f"{ROOT}/requests"

MAX_ENTRIES = 1000
# Of all entries together. With bodies as long as they are kept it is about as many entries.
MAX_BYTES = 32 * 1024 * 1024


class Journal:
    """The middleware, outermost, and what it has kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == ROOT or scope["path"].startswith(f"{ROOT}/"):
            await self._answer(scope, receive, send)
            return
        entry = self._begin(scope)
        # ASGI has them in lower case; serve.py gives them as they came, for the journal.
        scope["headers"] = [(name.lower(), value) for name, value in scope["headers"]]
        await self._recorded(entry, scope, receive, send)

    def _begin(self, scope: Scope) -> Entry:
        self._count += 1
        entry = Entry(scope, self._count)
        self._entries.append(entry)
        self._grow(entry, entry.size)
        return entry

    def _grow(self, entry: Entry, size: int) -> None:
        if entry.is_forgotten:
            return
        self._bytes += size
        while len(self._entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            oldest = self._entries.popleft()
            oldest.is_forgotten = True
            self._bytes -= oldest.size

    async def _recorded(self, entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        is_head = scope["method"] == "HEAD"

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._grow(entry, entry.add_body(message.get("body", b"")))
            return message

        async def note_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            if message["type"] == "http.response.body":
                entry.bytes_sent += 0 if is_head else len(message.get("body", b""))
                # Before it is sent: who has the end may look here at once.
                if not message.get("more_body", False) and not connection.has_left:
                    entry.end("complete")
            await send(message)

        try:
            await self._app(scope, receive_and_note, note_and_send)
        finally:
            if entry.ended == "running":
                entry.bytes_sent += connection.garbage_bytes
                entry.end(_how_it_ended(connection))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with contextlib.suppress(ClientDisconnect):
            async for _ in request.stream():
                pass
            try:
                response = self._response(request)
            except ApiError as error:
                response = error.response({"allow": "GET, DELETE"} if error.status == 405 else None)
            await response(scope, receive, send)

    def _response(self, request: Request) -> Response:
        path = request.scope["path"]
        if path != PATH:
            raise ApiError(404, f"Invalid URL ({request.method} {path}); there is {PATH}.")
        match request.method:
            case "GET":
                shown = [entry.as_json() for entry in self._selected(request.query_params)]
                return Response(msgspec.json.encode({"requests": shown}), media_type="application/json")
            case "DELETE":
                self._forget()
                return Response(status_code=204)
            case _:
                raise ApiError(405, f"{request.method} is not allowed on {path}.", code="method_not_supported")

    def _selected(self, query: QueryParams) -> list[Entry]:
        """The entries that a query asks for, oldest first.

        Raises:
            ApiError: status 400.
        """
        for name, _ in query.multi_items():
            if name not in ("path", "limit"):
                raise ApiError(400, f"Unknown parameter {name!r}; there are path and limit.", param=name)
        path, limit = query.get("path"), query.get("limit", str(MAX_ENTRIES))
        if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= MAX_ENTRIES:
            raise ApiError(400, f"limit is {limit!r}; it takes 1 to {MAX_ENTRIES}.", param="limit")
        return [entry for entry in self._entries if path is None or entry.path == path][-int(limit) :]

    def _forget(self) -> None:
        for entry in self._entries:
            entry.is_forgotten = True
        self._entries.clear()
        self._bytes = 0


def _how_it_ended(connection: Connection) -> Ended:
    if connection.was_reset:
        return "reset"
    return "closed" if connection.garbage_bytes or not connection.has_left else "client left"
