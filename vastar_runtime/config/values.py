"""What a key may be set to, by its type and its name: read from the file, and written back to it.

Every ValueError's text goes after the key: what was found, what is allowed.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Callable
from typing import get_args

import msgspec

from .paths import absolute_path
from .policy import PERIODS_S, Rate, TokenLimitPolicy
from .quoting import quoted
from .settings import AUTO_WORKERS, MAX_SOCKET_PATH_BYTES, MAX_WORKERS, Value
from .table_values import BY_FIELD

# Longer than anybody waits, and far from what a clock in milliseconds, or a float of seconds, can hold.
MAX_DURATION_MS = 10 * 365 * 86_400_000
MAX_COUNT = 1_000_000
MAX_TOKEN_COUNT = 1_000_000_000

# What 0 means for counts that it is allowed for; none of them takes "none".
_FROM_ZERO = {
    "max_queued": "none waits",
    "max_queued_per_tenant": "none waits",
    "max_retries": "no retries",
    "budget_minimum": "only budget_ratio counts",
}
_RATE = re.compile(r"([0-9]{1,10})/(s|min|h)")
_RATES = 'a string such as "100/s", "60/min" or "1000/h", its number from 1 to'
_OWNERS = 0o200  # all that connect(2) asks for
_UNITS_MS = {"ms": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_WITH_UNIT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([a-z]{1,3})")
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?")


def read_value(struct: type[msgspec.Struct], key: str, kind: object, found: object) -> Value:
    """The value of a key, from what TOML holds.

    Args:
        struct: the table.
        key: its name.
        kind: the field's type.
        found: as tomllib gives it.

    Raises:
        ValueError: it cannot be used.
    """
    members = set(get_args(kind)) or {kind}
    or_none = ', or "none"' if types.NoneType in members else ""
    if or_none and found == "none":
        return None
    if (reader := BY_FIELD.get((struct, key))) is not None:
        return reader(found, or_none)
    if key in _BY_KEY:
        return _BY_KEY[key](found, or_none)
    if bool in members:
        if not isinstance(found, bool):
            hint = f"write {found}, without quotes" if found in ("true", "false") else ""
            raise _refused(found, "true or false", hint)
        return found
    if Rate in members:
        return _rate(found, MAX_TOKEN_COUNT if struct is TokenLimitPolicy else MAX_COUNT, or_none)
    if float in members:
        return _ratio(found, above_zero=key == "failure_rate", or_none=or_none)
    if key.endswith("_ms"):
        return _duration(found, or_none)
    if key in _FROM_ZERO:
        return _whole(found, 0, MAX_COUNT, or_none, f"0: {_FROM_ZERO[key]}" if found == "none" else "")
    return _whole(found, 1, MAX_COUNT, or_none)


def write_value(key: str, value: Value) -> bool | int | float | str | list[str]:
    """The value as the file has it; ``read_value`` of that gives it again."""
    if value is None:
        return "none"
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if key == "socket_mode":
        return f"{value:04o}"
    if key == "workers" and value == AUTO_WORKERS:
        return "auto"
    return value


def socket_path(path: str) -> str:
    """The absolute path of a socket.

    Raises:
        ValueError: no socket can have it.
    """
    if not path or "\0" in path:
        raise ValueError(f"{quoted(path)} is no path of a socket")
    path = absolute_path(path)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"the path has {len(os.fsencode(path))} bytes; "
            f"the system allows {MAX_SOCKET_PATH_BYTES} for a socket: choose a shorter one"
        )
    return path


def socket_mode(text: str) -> int:
    """Permission bits from octal digits.

    Raises:
        ValueError: they are none, or keep the socket's owner out.
    """
    if not re.fullmatch(r"(?:0o?)?[0-7]{1,3}", text):
        raise ValueError(f"{quoted(text)} is no octal permission such as 0600 or 0660")
    mode = int(text, 8)
    if mode & _OWNERS != _OWNERS:
        raise ValueError(
            f"{quoted(text)} keeps the socket's own user out, who must be able to write: such as 0600 or 0660"
        )
    return mode


def workers(text: str) -> int:
    """How many, from digits or "auto".

    Raises:
        ValueError: it is neither, or too many.
    """
    if text == "auto":
        return AUTO_WORKERS
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_WORKERS):
        raise ValueError(f"{quoted(text)} is neither a whole number from 1 to {MAX_WORKERS} nor auto")
    return int(text)


def _refused(found: object, allowed: str, hint: str = "") -> ValueError:
    return ValueError(f"found {quoted(found)}; allowed: {allowed}" + (f"; {hint}" if hint else ""))


def _unquote(found: object) -> str:
    return f"write {found}, without quotes" if isinstance(found, str) and _NUMBER.fullmatch(found) else ""


def _whole(found: object, low: int, high: int, or_none: str, hint: str = "") -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise _refused(found, f"a whole number from {low} to {high}{or_none}", hint or _unquote(found))
    return found


def _duration(found: object, or_none: str) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MAX_DURATION_MS:
        hint = _unquote(found)
        with_unit = _WITH_UNIT.fullmatch(found) if isinstance(found, str) else None
        if with_unit is not None and with_unit[2] in _UNITS_MS:
            hint = f"write milliseconds: {round(float(with_unit[1]) * _UNITS_MS[with_unit[2]])}"
        allowed = f"a whole number of milliseconds from 1 to {MAX_DURATION_MS} (10 years){or_none}"
        raise _refused(found, allowed, hint)
    return found


def _ratio(found: object, *, above_zero: bool, or_none: str) -> float:
    if (
        not isinstance(found, int | float)
        or isinstance(found, bool)
        or not 0 <= found <= 1
        or (above_zero and not found)
    ):
        allowed = "a number above 0 and at most 1" if above_zero else "a number from 0 to 1"
        raise _refused(found, f"{allowed}{or_none}", _unquote(found))
    return float(found)


def _rate(found: object, most: int, or_none: str) -> Rate:
    match = _RATE.fullmatch(found) if isinstance(found, str) else None
    if match is None or not 1 <= int(match[1]) <= most:
        raise _refused(found, f"{_RATES} {most}{or_none}")
    return Rate(int(match[1]), PERIODS_S[match[2]])


def _socket_in_file(found: object, _or_none: str) -> str:
    # The file's reader may work in another directory than its writer.
    if not isinstance(found, str) or not os.path.isabs(found):
        raise _refused(found, "a string: the absolute path of a socket")
    return socket_path(found)


def _mode_in_file(found: object, _or_none: str) -> int:
    if not isinstance(found, str):
        raise _refused(found, 'a string of octal digits, such as "0600" or "0660"')
    return socket_mode(found)


def _group_in_file(found: object, or_none: str) -> str:
    if not isinstance(found, str) or not found or "\0" in found:
        raise _refused(found, f"a string: the name or the number of a group{or_none}")
    return found


def _port_in_file(found: object, or_none: str) -> int:
    return _whole(found, 0, 65535, or_none)


def _workers_in_file(found: object, _or_none: str) -> int:
    return AUTO_WORKERS if found == "auto" else _whole(found, 1, MAX_WORKERS, ', or "auto"')


_BY_KEY: dict[str, Callable[[object, str], Value]] = {
    "socket": _socket_in_file,
    "socket_mode": _mode_in_file,
    "socket_group": _group_in_file,
    "tcp_port": _port_in_file,
    "workers": _workers_in_file,
}
