"""The grammar of faults: what the header X-Simulate and ``--fault`` may say.

Parts are joined by ";", as in ``status=429;retry-after=2;first=1``; ``none`` alone is no fault. PARTS has them all.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import msgspec

# All parts together, in their longest sensible spelling, have half of it.
MAX_TEXT_CHARS = 200

# An hour is longer than any timeout that a test waits for.
MAX_LATENCY_S = 3600
MAX_RETRY_AFTER_S = 86_400
MAX_BYTES_PER_S = 1e9
MAX_COUNT = 1_000_000

NONE = "none"

_SECONDS = {"ms": 0.001, "s": 1.0}
_BYTES_PER_S = {"B/s": 1.0, "kB/s": 1000.0}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"


class FaultError(ValueError):
    """A fault that cannot be: ``str()`` is one line, without its end, that names the part and what is allowed."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with a request; the default of each field is that it does not.

    Attributes:
        text: as it was written.
        status: answered instead of what the application answers; 200 to 599.
        retry_after_s: the value of Retry-After beside it.
        latency_s: passes before anything is answered.
        hang: nothing is ever answered.
        cut_after: the connection is reset after so many events of a stream, in the middle of a whole answer's body.
        truncate_event: the event with this number, from 1, is the last one and breaks off; a whole answer does.
        bytes_per_s: the pace of the body.
        garbage: what is answered is no HTTP.
        rate: the share of requests that it happens to; None: all.
        first: it happens to so many equal requests, and no longer; None: without end.
    """

    text: str
    status: int | None = None
    retry_after_s: int | None = None
    latency_s: float = 0.0
    hang: bool = False
    cut_after: int | None = None
    truncate_event: int | None = None
    bytes_per_s: float | None = None
    garbage: bool = False
    rate: float | None = None
    first: int | None = None


def parse(text: str) -> Fault | None:
    """The fault that ``text`` describes; None when it says "none".

    Raises:
        FaultError: it is no fault.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise FaultError(f"a fault of {len(text)} characters; it has {MAX_TEXT_CHARS} at most")
    text = text.strip()
    if text == NONE:
        return None
    fields: dict[str, Any] = {}
    said: list[str] = []
    for part in text.split(";"):
        name, equals, value = (piece.strip() for piece in part.strip().partition("="))
        if name not in PARTS:
            raise FaultError(_unknown(name))
        if name in said:
            raise FaultError(f"{name} is said twice")
        field, reader = PARTS[name]
        if reader is None:
            if equals:
                raise FaultError(f"{name} takes no value, and {value!r} is one")
            fields[field] = True
        else:
            fields[field] = reader(name, value)
        said.append(name)
    _refuse_contradictions(said)
    return Fault(text=text, **fields)


def _unknown(name: str) -> str:
    if not name:
        return f"a part is empty; the parts are {', '.join(PARTS)}, joined by ';'"
    if name == NONE:
        return f"{NONE} stands alone"
    near = get_close_matches(name, PARTS, 1, 0.6)
    return f"unknown part {name!r}; " + (f"did you mean {near[0]}?" if near else f"the parts are {', '.join(PARTS)}")


def _refuse_contradictions(said: list[str]) -> None:
    for group in _ONE_OF:
        if len(both := [name for name in said if name in group]) > 1:
            raise FaultError(f"{both[0]} and {both[1]} exclude each other")
    if "retry-after" in said and "status" not in said:
        raise FaultError("retry-after needs a status beside it, such as status=429;retry-after=2")
    if not set(said) - _HOW_OFTEN:
        raise FaultError(f"{said[0]} says how often, and nothing says what: such as status=503;{said[0]}=…")


def _integer(least: int, most: int, unit: str = "") -> Callable[[str, str], int]:
    def read(name: str, value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise FaultError(f"{name}={value!r}: {name} takes a whole number{unit} from {least} to {most}")
        return int(value)

    return read


def _quantity(units: dict[str, float], least: float, most: float, allowed: str) -> Callable[[str, str], float]:
    def read(name: str, value: str) -> float:
        found = re.fullmatch(f"({_NUMBER}) ?({'|'.join(units)})", value)
        quantity = float(found[1]) * units[found[2]] if found else -1.0
        if not least <= quantity <= most:
            raise FaultError(f"{name}={value!r}: {name} takes {allowed}")
        return quantity

    return read


def _share(name: str, value: str) -> float:
    share = float(value) if re.fullmatch(_NUMBER, value) else 0.0
    if not 0 < share <= 1:
        raise FaultError(f"{name}={value!r}: {name} takes a share above 0, up to 1, such as 0.1")
    return share


# Each part's field of Fault, and what reads its value; None: it has no value. A status of 1xx announces an answer and
# is none: whoever gets one waits on.
PARTS: dict[str, tuple[str, Callable[[str, str], Any] | None]] = {
    "status": ("status", _integer(200, 599)),
    "retry-after": ("retry_after_s", _integer(0, MAX_RETRY_AFTER_S, " of seconds")),
    "latency": ("latency_s", _quantity(_SECONDS, 0, MAX_LATENCY_S, "a time up to 3600s, such as 500ms or 2s")),
    "hang": ("hang", None),
    "cut-after": ("cut_after", _integer(0, MAX_COUNT, " of events")),
    "truncate-event": ("truncate_event", _integer(1, MAX_COUNT)),
    "slow": (
        "bytes_per_s",
        _quantity(_BYTES_PER_S, 1, MAX_BYTES_PER_S, "a pace from 1B/s to 1000000kB/s, such as 100B/s or 2kB/s"),
    ),
    "garbage": ("garbage", None),
    "rate": ("rate", _share),
    "first": ("first", _integer(1, MAX_COUNT)),
}

_HOW_OFTEN = frozenset({"rate", "first"})
# Of each of these one at most: what comes instead of the answer, how the answer ends, how often it happens; and where
# nothing comes, or nothing that has a body, there is nothing to delay.
_ONE_OF = (
    {"status", "hang", "garbage"},
    {"cut-after", "truncate-event", "hang", "garbage"},
    {"slow", "hang", "garbage"},
    {"latency", "hang"},
    _HOW_OFTEN,
)
