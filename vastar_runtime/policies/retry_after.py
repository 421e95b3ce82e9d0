"""What a Retry-After header says."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

# More digits than this are more than thirty thousand years; int() of thousands of them is slow, or refused.
_MAX_DIGITS = 12

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>[0-5]\d|60)"
# RFC 9110, section 5.6.7: the form of today, that of RFC 850, and that of C's asctime. Not strptime, which takes the
# names of days and months from the locale, nor email.utils, which takes almost anything for a date.
_DATES = (
    re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT"),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-"
        + _MONTH
        + rb"-(?P<year>\d\d) "
        + _TIME
        + rb" GMT"
    ),
    re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})"),
)


def parse_retry_after(value: bytes, unix_now_s: float) -> float | None:
    """Seconds from now, at least 0 and perhaps infinite, by the header's value (RFC 9110, section 10.2.3).

    Args:
        unix_now_s: the wall clock, which is what dates speak of; a date that has passed means now.

    Returns:
        None for a value that is neither a number of seconds nor a date.
    """
    if value.isdigit():
        digits = value.lstrip(b"0")
        return math.inf if len(digits) > _MAX_DIGITS else float(digits or b"0")
    for date in _DATES:
        if match := date.fullmatch(value):
            at_s = _unix_s(match, unix_now_s)
            return None if at_s is None else max(0.0, at_s - unix_now_s)
    return None


def _unix_s(match: re.Match[bytes], unix_now_s: float) -> float | None:
    year, month = int(match["year"]), _MONTHS.index(match["month"]) + 1
    if len(match["year"]) == 2:
        # Of the years that end so, the last one that is not more than 50 years ahead.
        latest = datetime.fromtimestamp(unix_now_s, UTC).year + 50
        year = latest - (latest - year) % 100
    try:
        minute = datetime(year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), tzinfo=UTC)
    except ValueError:  # the 30th of February, the year 0
        return None
    return minute.timestamp() + int(match["second"])  # which may be a leap second
