"""The body of a request."""

from starlette.requests import ClientDisconnect, Request

from .api_error import ApiError

# A conversation of a million tokens of English has about this size.
MAX_BODY_BYTES = 4 * 1024 * 1024

# A client that says nothing for so long in the middle of one holds a connection for nothing.
MAX_SILENCE_S = 60


class BodyStayedAway(ClientDisconnect):
    """Nothing came of the rest of a body for MAX_SILENCE_S: as good as if the client had left. Exchange raises it."""

    def as_api_error(self) -> ApiError:
        return ApiError(408, f"The rest of the body did not come within {MAX_SILENCE_S} seconds.")


async def read_body(request: Request) -> bytes:
    """The whole body; one over the limit is read on to its end and dropped.

    An answer before the end of the body would close the connection under a client that is still sending, and such a
    client often sees the reset and not the answer.

    Raises:
        ApiError: status 413, or 408: see BodyStayedAway.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    body = bytearray()
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= MAX_BODY_BYTES:
                body += chunk
    except BodyStayedAway as error:
        raise error.as_api_error() from error
    if size > MAX_BODY_BYTES:
        raise ApiError(413, f"The body has {size} bytes; the simulator takes {MAX_BODY_BYTES} at most.")
    return bytes(body)


async def drop_body(request: Request) -> None:
    """Reads a body that is not wanted to its end: see read_body.

    Raises:
        ApiError: status 408: see BodyStayedAway.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    try:
        async for _ in request.stream():
            pass
    except BodyStayedAway as error:
        raise error.as_api_error() from error
