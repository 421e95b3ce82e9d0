"""Foreign text in messages: in one line, and never long."""

import re

from .settings import KeyPath

_MAX_CHARACTERS = 80
_MAX_PATH_CHARACTERS = 400
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def quoted(found: object) -> str:
    """What was found in the file, a variable or a flag."""
    match found:
        case bool():
            return "true" if found else "false"
        case str() if len(found) > _MAX_CHARACTERS:
            return f"{found[:_MAX_CHARACTERS]!r}… ({len(found)} characters)"
        case int() if abs(found) >= 10**20:  # one of 5,000 digits has no repr at all
            return "a number of more than 20 digits"
        case str() | int() | float():
            return repr(found)
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return "a date or time"


def written(text: str) -> str:
    """Text as it leaves this process. A byte that is none, as file names and arguments may have it, is half a surrogate
    pair here (``os.fsdecode``); UTF-8 has no form for that, and it is told as a backslash escape: ``\\udcf6``."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown_path(path: str) -> str:
    """A file's path, as it is where that is possible."""
    if len(path) > _MAX_PATH_CHARACTERS:
        return quoted(path)
    return path if path.isprintable() else repr(path)


def shown_address(host: str, port: int) -> str:
    """An IP address and a port, as people write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown_key(path: KeyPath) -> str:
    """A key: ``policy.retry.max_retries``, ``[[scope]] number 2: retry.max_retries``."""
    if len(path) > 1 and isinstance(path[1], int):
        scope = f"[[{path[0]}]] number {path[1] + 1}"
        return f"{scope}: {shown_key(path[2:])}" if path[2:] else scope
    return ".".join(part if _BARE_KEY.fullmatch(part) else quoted(part) for part in map(str, path))
