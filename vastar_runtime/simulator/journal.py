"""What the simulator received: ``GET /__sim/requests`` shows it, ``DELETE /__sim/requests`` forgets it.

To forget is to begin anew, for the next test: faults count from the start again, too.

It shows headers as they came, keys too: the simulator is a tool for tests that listens on loopback, and which key
arrived is among what a test wants to know. Do not let it listen where others can connect, with keys that count.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_error import ApiError
from .body import drop_body
from .connection import Connection, connection_of
from .journal_entry import Ended, Entry
from .request import whole_number

ROOT = "/__sim"
PATH = f"{ROOT}/requests"

MAX_ENTRIES = 1000
# Of all entries together. With bodies as long as they are kept it is about as many entries.
MAX_BYTES = 32 * 1024 * 1024

# A long answer is sent in such pieces: of one that its client leaves in the middle, the end is then not noted as sent.
# So is the list, or of one entry where that is longer: whole it may have 100 MB, and a client that does not read would
# hold them.
_PIECE_BYTES = 64 * 1024


class Journal:
    """The middleware, outermost, and what it has kept."""

    def __init__(self, app: ASGIApp, when_forgotten: Callable[[], None]) -> None:
        """The middleware of one simulator.

        Args:
            when_forgotten: called with each DELETE, for what others remember of requests.
        """
        self._app = app
        self._when_forgotten = when_forgotten
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        has_left = False

        async def receive_and_note() -> Message:
            nonlocal has_left
            message = await receive()
            if message["type"] == "http.request":
                self._grow(entry, entry.add_body(message.get("body", b"")))
            else:
                has_left = True
            return message

        async def note_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            for piece in _in_pieces(message):
                if piece["type"] == "http.response.body" and not connection.is_lost:
                    entry.bytes_sent += 0 if is_head else len(piece.get("body", b""))
                    # Before it is sent: who has the end may look here at once, or leave. Who has left already may still
                    # read (shutdown(2)), unless that is why the application ends.
                    if not piece.get("more_body", False) and not has_left:
                        entry.end("complete")
                await send(piece)

        try:
            await self._app(scope, receive_and_note, note_and_send)
        finally:
            if entry.ended == "running":
                entry.bytes_sent += connection.garbage_bytes
                entry.end(_how_it_ended(connection))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with contextlib.suppress(ClientDisconnect):
            try:
                answer = await self._asked(request)
            except ApiError as error:
                answer = error.response({"allow": "GET, DELETE"} if error.status == 405 else None)
            await answer(scope, receive, send)

    async def _asked(self, request: Request) -> ASGIApp:
        """What answers a request, when its body is read.

        Raises:
            ApiError: the request is wrong.
            starlette.requests.ClientDisconnect: the client left before its end.
        """
        await drop_body(request)
        path = request.scope["path"]
        if path != PATH:
            raise ApiError(404, f"Invalid URL ({request.method} {path}); there is {PATH}.")
        match request.method:
            case "GET":
                # Their numbers: as entries they would be kept until the client has read them.
                numbers = [entry.number for entry in self._selected(request.query_params)]
                return lambda scope, receive, send: self._send_list(numbers, send)
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
        path, said = query.get("path"), query.get("limit", str(MAX_ENTRIES))
        limit = whole_number(said, 1, MAX_ENTRIES)
        if limit is None:
            raise ApiError(400, f"limit is {said!r}; it takes 1 to {MAX_ENTRIES}.", param="limit")
        return [entry for entry in self._entries if path is None or entry.path == path][-limit:]

    async def _send_list(self, numbers: list[int], send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        piece, separator, forgotten = b'{"requests":[', b"", 0
        for number in numbers:
            entry = self._entry(number)
            if entry is None:
                forgotten += 1
                continue
            piece += separator + msgspec.json.encode(entry.as_json())
            separator = b","
            if len(piece) >= _PIECE_BYTES:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = b""
        await send({"type": "http.response.body", "body": piece + b'],"forgotten":%d}' % forgotten})

    def _entry(self, number: int) -> Entry | None:
        """The entry with a number that there was; None when it is forgotten."""
        place = number - self._entries[0].number if self._entries else -1
        return self._entries[place] if place >= 0 else None

    def _forget(self) -> None:
        for entry in self._entries:
            entry.is_forgotten = True
        self._entries.clear()
        self._bytes = 0
        self._when_forgotten()


def _in_pieces(message: Message) -> Iterator[Message]:
    body: bytes = message.get("body", b"")
    if len(body) <= _PIECE_BYTES:
        yield message
        return
    for begin in range(0, len(body), _PIECE_BYTES):
        end = begin + _PIECE_BYTES
        yield {**message, "body": body[begin:end], "more_body": message.get("more_body", False) or end < len(body)}


def _how_it_ended(connection: Connection) -> Ended:
    if connection.was_reset:
        return "reset"
    return "closed" if connection.garbage_bytes or not connection.has_left else "client left"
