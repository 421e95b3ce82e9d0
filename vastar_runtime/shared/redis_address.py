"""Where Redis is, and how it knows us; shown without the password."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from vastar_runtime.errors import ConfigError

DEFAULT_PORT = 6379
MAX_DATABASE = 99_999

_ALLOWED = (
    "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://… for TLS, unix://[USER:PASSWORD@]/PATH[?db=DATABASE]"
)


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A server.

    Attributes:
        host, port: None: ``path`` says where.
        path: of a Unix socket.
        is_tls: TLS with the system's authorities, and the host's name checked.
    """

    host: str | None = None
    port: int = DEFAULT_PORT
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = None
    is_tls: bool = False

    @classmethod
    def parse(cls, url: str, password: str | None = None) -> RedisAddress:
        """Of redis://, rediss://, unix:// and redis+unix://.

        Args:
            password: in place of the URL's.

        Raises:
            ConfigError: it is none of these; the message does not quote it.
        """
        try:
            parts = urlsplit(url)
            username = _text(parts.username)
            password = password if password is not None else _text(parts.password)
            if parts.fragment:
                raise ValueError
            if parts.scheme in ("unix", "redis+unix"):
                path = unquote(parts.path, errors="strict")
                if parts.hostname or not path.startswith("/") or "\0" in path:
                    raise ValueError
                return cls(path=path, database=_database(_query(parts)), username=username, password=password)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port == 0 or parts.query:
                raise ValueError
            return cls(
                host=parts.hostname,
                port=parts.port or DEFAULT_PORT,
                database=_database(parts.path.removeprefix("/")),
                username=username,
                password=password,
                is_tls=parts.scheme == "rediss",
            )
        except ValueError:
            # Not the cause: it may quote the URL.
            raise ConfigError(f"the address of Redis is not understood; allowed: {_ALLOWED}") from None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"RedisAddress({self})"


def _text(part: str | None) -> str | None:
    return unquote(part, errors="strict") if part else None


def _query(parts: SplitResult) -> str:
    found = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    if set(found) - {"db"}:
        raise ValueError
    return found.get("db", "")


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_DATABASE))):
        raise ValueError
    return int(text)
