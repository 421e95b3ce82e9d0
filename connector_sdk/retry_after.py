"""How long an answer asks to wait before another try. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

# Nobody waits for years; the number stays one that every clock takes.
MAX_RETRY_AFTER_MS = 2**31 - 1
_MAX_CHARACTERS = 64


def retry_after_ms(headers: Mapping[str, str], unix_time_s: Callable[[], float] = time.time) -> int:
    """What ``retry-after-ms``, else ``Retry-After`` (seconds or a date; RFC 9110, section 10.2.3) asks for.

    Args:
        headers: names in lower case.
        unix_time_s: the wall clock, of which dates speak; one that has passed asks for nothing.

    Returns:
        milliseconds, at most MAX_RETRY_AFTER_MS; 0 for nothing, and for what is none of these.
    """
    wanted = _number(headers.get("retry-after-ms", ""))
    if wanted is None:
        value = headers.get("retry-after", "")
        seconds = _number(value)
        if seconds is None:
            date = _unix_s(value)
            seconds = None if date is None else date - unix_time_s()
        wanted = None if seconds is None else seconds * 1000
    return 0 if wanted is None else math.ceil(min(max(wanted, 0), MAX_RETRY_AFTER_MS))


def _number(text: str) -> float | None:
    """Decimal digits, perhaps with a fraction, which some servers send against the letter of the standard."""
    whole, _, fraction = text.strip().partition(".")
    is_number = len(text) <= _MAX_CHARACTERS and whole.isascii() and (whole + fraction).isdigit()
    return float(text) if is_number and fraction.isascii() and whole else None


def _unix_s(text: str) -> float | None:
    if not 0 < len(text) <= _MAX_CHARACTERS:
        return None
    from email.utils import mktime_tz, parsedate_tz  # an import that few answers need

    try:
        date = parsedate_tz(text)
        return None if date is None else float(mktime_tz(date))
    except (ValueError, OverflowError, IndexError, TypeError):  # the 99th of May; email.utils checks little
        return None
