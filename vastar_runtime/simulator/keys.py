"""The key that a simulator may demand, in the header of each API."""

import hmac

from starlette.requests import Request

from .api_error import ApiError
from .envelope import AZURE_ROOT, speaks_anthropic


class KeyCheck:
    """Called with a request, it raises unless that has the key; without a key it lets all in."""

    def __init__(self, key: str | None) -> None:
        # Both as the bytes they were: headers are decoded as Latin-1, arguments of a command with surrogateescape.
        self._key = None if key is None else key.encode("utf-8", "surrogateescape")

    def __call__(self, request: Request) -> None:
        """Refuse a request without the key.

        Raises:
            ApiError: status 401.
        """
        if self._key is None:
            return
        header = _key_header(request)
        given = request.headers.get(header, "") if header else ""
        if not given:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            given = token if scheme.lower() == "bearer" else ""
        if not given.strip():
            bearer = "Authorization: Bearer KEY"
            how = f"{header}: KEY or {bearer}" if header else bearer
            problem = f"No API key provided; send it in the header {how}."
        elif not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            problem = "Incorrect API key provided; it is not the one that the simulator was started with."
        else:
            return
        raise ApiError(401, problem, code="invalid_api_key")


def _key_header(request: Request) -> str | None:
    """The header that an API has for keys besides Authorization, which its clients may use for tokens of a login."""
    if request.scope["path"].startswith(f"{AZURE_ROOT}/"):
        return "api-key"
    return "x-api-key" if speaks_anthropic(request) else None
