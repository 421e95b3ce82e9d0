"""One exchange of HTTP/1, where Hypercorn leaves it to the application to do as RFC 9112 wants it."""

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_error import ApiError
from .body import MAX_SILENCE_S, BodyStayedAway


class Exchange:
    """ASGI middleware, around all that reads a request or ends an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["http_version"].startswith("1."):
            refusal = ApiError(505, f"HTTP/{scope['http_version']} is not spoken here; HTTP/1.1 is.")
            await refusal.response({"connection": "close"})(scope, receive, send)
            return
        end = _End(_Patience(receive), send)
        await self._app(scope, end.receive, end.send)


class _Patience:
    """Gives up a body whose rest stays away: whoever reads it, its connection would be kept for nothing."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_whole = False

    async def __call__(self) -> Message:
        """Raises BodyStayedAway when nothing came for MAX_SILENCE_S, though the body is not at its end."""
        if self._is_whole:
            return await self._receive()
        with trio.move_on_after(MAX_SILENCE_S):
            message = await self._receive()
            self._is_whole = not message.get("more_body", False)
            return message
        raise BodyStayedAway


class _End:
    """The end of an answer.

    Hypercorn says http.disconnect at the end of every answer, before it closes the connection or takes the next
    request, and does that in the task that sends the last message. Streams are cancelled by an http.disconnect. So they
    are told when that task is done; until then the connection would stay open, and its client wait for the end.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_ending = False
        self._has_ended = trio.Event()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._is_ending:
            await self._has_ended.wait()
        return message

    async def send(self, message: Message) -> None:
        self._is_ending = message["type"] == "http.response.body" and not message.get("more_body", False)
        try:
            await self._send(message)
        finally:
            if self._is_ending:
                self._has_ended.set()
