"""A request's body that is read before the application asks for it."""

import trio
from starlette.types import Message, Receive

from .body import MAX_BODY_BYTES, BodyStayedAway

_TRICKLE_PAUSE_S = 0.01


class Upload:
    """Reads it, and gives it again as ASGI's ``receive`` does.

    A body whose rest stays away is at its end for who reads on; the application then learns of it.

    Attributes:
        data: what is held of it: all, or at least the first MAX_BODY_BYTES.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_complete = False
        self._has_left = False
        self._stayed_away: BodyStayedAway | None = None
        self._is_given = False
        self.data = b""

    async def read(self) -> None:
        """Reads until the end, or until more is there than any endpoint takes."""
        held = bytearray()
        while self._has_more and len(held) <= MAX_BODY_BYTES:
            held += await self._next()
        self.data = bytes(held)

    async def read_to_end(self) -> None:
        """Reads on to the end, and drops what it reads."""
        while self._has_more:
            await self._next()

    async def trickle(self) -> None:
        """Reads on to the end at a few MB/s, and drops what it reads.

        Not at all is too slow: the end of a connection stands behind bytes that nobody takes, so that a client which
        leaves in the middle would not be seen to.
        """
        while self._has_more:
            await self._next()
            await trio.sleep(_TRICKLE_PAUSE_S)

    @property
    def _has_more(self) -> bool:
        return not self._is_complete and not self._has_left and self._stayed_away is None

    async def _next(self) -> bytes:
        try:
            data: bytes = (await self._received()).get("body", b"")
        except BodyStayedAway as error:
            self._stayed_away = error
            return b""
        return data

    async def _received(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._has_left = True
        else:
            self._is_complete = not message.get("more_body", False)
        return message

    async def __call__(self) -> Message:
        if not self._is_given:
            self._is_given = True
            data, self.data = self.data, b""
            return {"type": "http.request", "body": data, "more_body": not self._is_complete}
        if self._has_left:
            return {"type": "http.disconnect"}
        if self._stayed_away is not None:
            raise self._stayed_away
        return await self._received()
