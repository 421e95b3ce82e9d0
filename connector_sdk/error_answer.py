"""An answer that is of no use, as an exception: a status that is an error, a body that is no JSON. No I/O.

The message says what was asked for and how the body begins, in one line. Keys may stand in the query, and servers
write what they were sent into their error pages: neither is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from .errors import APIError, ConnectorException
from .retry_after import retry_after_ms
from .wire.messages import ErrorClass

# So much of a body is read for the message, and no longer is waited for it.
MAX_BODY_BYTES = 16 * 1024
BODY_WAIT_MS = 1_000

_SHOWN_CHARACTERS = 200
# What is shorter stands in other words by chance. A short key, as in tests, is hidden where it is a word of its own; a
# short value of a query, such as "open" or "100", is none.
_MIN_SECRET_CHARACTERS = 8
_MIN_SHORT_KEY_CHARACTERS = 4
_SECRET_HEADERS = ("auth", "cookie", "key", "password", "secret", "signature", "token")
# Not compiled here: most programs never see an error.
_USERINFO = r"^([^/\\?#@:]*:[/\\]*)[^/\\?#]*@"


class Asked:
    """What a response answers: ``str()`` is its method and its URL without userinfo and query.

    Args:
        headers: of the request; only to know what must not be shown.
    """

    __slots__ = ("_headers", "_method", "_url")

    def __init__(self, method: str, url: str, headers: Iterable[tuple[str, str]] | None = None) -> None:
        self._method = method
        self._url = url
        self._headers = headers

    def __str__(self) -> str:
        address, question_mark, _ = self._url.partition("#")[0].partition("?")
        shown = one_line(re.sub(_USERINFO, r"\1", address))
        return f"{one_line(self._method)} {shown}{'?…' if question_mark else ''}"

    def __repr__(self) -> str:
        return f"<Asked {self}>"

    def __reduce__(self) -> tuple[type[Asked], tuple[str, str]]:
        """Copies, which may end in files, have no secrets."""
        method, _, url = str(self).partition(" ")
        return Asked, (method, url)

    def hide_secrets(self, text: str) -> str:
        """``text`` with … in place of what the request had in its query, its userinfo and its keys."""
        keys = set(self._keys())
        for secret in sorted(keys.union(self._query_values()), key=len, reverse=True):
            if len(secret) >= _MIN_SECRET_CHARACTERS:
                text = text.replace(secret, "…")
            elif secret in keys and len(secret) >= _MIN_SHORT_KEY_CHARACTERS:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return text

    def _query_values(self) -> Iterator[str]:
        from urllib.parse import unquote, unquote_plus  # an import that only errors need

        for part in re.split("[&;]", self._url.partition("#")[0].partition("?")[2]):
            value = part.partition("=")[2] or part
            yield from (value, unquote(value), unquote_plus(value))

    def _keys(self) -> Iterator[str]:
        from urllib.parse import unquote

        if userinfo := re.match(_USERINFO, self._url):
            for part in userinfo[0][len(userinfo[1]) : -1].partition(":"):  # some APIs have the key as the user's name
                yield from (part, unquote(part))
        for name, value in self._headers or ():
            if any(word in name.lower() for word in _SECRET_HEADERS):
                yield value
                yield from value.split()[1:]  # the key behind "Bearer"
                yield from (cookie.partition("=")[2] for cookie in value.split(";"))


class Answer(Protocol):
    """What all responses have."""

    @property
    def request_id(self) -> int: ...
    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def asked(self) -> Asked | None: ...


def one_line(text: str) -> str:
    """The beginning of a text that others wrote, on one line; what terminals would obey is left out."""
    line = " ".join(text[: 4 * _SHOWN_CHARACTERS].split())
    line = "".join(character if character.isprintable() else "\ufffd" for character in line)
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def is_error(status: int) -> bool:
    """True unless it is a 2xx or 3xx."""
    return not 200 <= status < 400


def status_error(answer: Answer, body: bytes) -> APIError:
    """The exception for an answer whose status is an error.

    Its class goes by the status: 429 RATE_LIMITED, 408 TIMEOUT, 5xx TRANSIENT, any other PERMANENT.

    Args:
        body: its beginning, or all of it.
    """
    headers = {name.lower(): value for name, value in answer.headers.items()}
    shown = _shown(body, answer.asked)
    error = APIError(
        f"{_subject(answer)}status {answer.status_code}" + (f": {shown}" if shown else ""),
        _error_class(answer.status_code),
        answer.request_id,
        status=answer.status_code,
        retry_after_ms=retry_after_ms(headers),
    )
    error.attempts = answer.attempts
    return error


def no_json(answer: Answer, body: bytes, reason: Exception) -> ConnectorException:
    """The exception for an answer that was to be JSON and is not."""
    why = "nested too deeply" if isinstance(reason, RecursionError) else str(reason)
    problem = f"is no JSON ({why}): {_shown(body, answer.asked)!r}" if body else "is empty, where JSON was to be"
    return ConnectorException(
        f"{_subject(answer)}the body of the answer, status {answer.status_code}, {problem}",
        ErrorClass.PERMANENT,
        answer.request_id,
        attempts=answer.attempts,
    )


def _subject(answer: Answer) -> str:
    return "" if answer.asked is None else f"{answer.asked}: "


def _error_class(status: int) -> ErrorClass:
    match status:
        case 429:
            return ErrorClass.RATE_LIMITED
        case 408:
            return ErrorClass.TIMEOUT
        case _:
            return ErrorClass.TRANSIENT if 500 <= status < 600 else ErrorClass.PERMANENT


def _shown(body: bytes, asked: Asked | None) -> str:
    text = body[:MAX_BODY_BYTES].decode("utf-8-sig", errors="replace")
    return one_line(text if asked is None else asked.hide_secrets(text))
