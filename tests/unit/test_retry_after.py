"""Retry-After in all its forms, and in none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastar_runtime.policies.retry_after import parse_retry_after

# Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples, is 30 seconds ahead.
NOW_S = 784_111_747.0
YEAR_2026_S = 1_781_524_800.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"1", 1.0),
        (b"120", 120.0),
        (b"007", 7.0),
        (b"0" * 5000 + b"7", 7.0),
        (b"1000000000", 1e9),
        (b"999999999999", 999_999_999_999.0),
        (b"1000000000000", math.inf),
        (b"9" * 4096, math.inf),
        (b"9" * 5000, math.inf),  # more digits than int() takes
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        (b"Sun Nov  6 08:49:37 1994", 30.0),
        (b"Wed Nov 16 08:49:37 1994", 864_030.0),
        (b"Mon, 06 Nov 1994 08:49:37 GMT", 30.0),  # no Monday, but the date is plain
        (b"Sun, 06 Nov 1994 08:49:07 GMT", 0.0),  # now
        (b"Sun, 06 Nov 1994 08:49:06 GMT", 0.0),
        (b"Sun, 06 Nov 1994 08:49:60 GMT", 53.0),  # a leap second
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        (b"Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400.0 - NOW_S),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799.0 - NOW_S),
    ],
    ids=lambda value: repr(value[:32]) if isinstance(value, bytes) else "",
)
def test_seconds_and_dates_are_understood(value: bytes, seconds: float) -> None:
    assert parse_retry_after(value, NOW_S) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"-1",
        b"+1",
        b"1.5",
        b"1e9",
        b"0x10",
        b"1_000",
        b"1 second",
        b"1, 2",
        b"1\n",
        b"inf",
        b"nan",
        b"soon",
        b"\x00",
        b"\xb2",  # a superscript two in Latin-1
        "١٢".encode(),  # digits, but not ASCII
        "１２".encode(),
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 06 Nov 19940 08:49:37 GMT",
        b"Sun, 06 Now 1994 08:49:37 GMT",
        b"So, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Nov 1994 08:49:37 GMT",
        b"Wed, 29 Feb 1995 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sat, 01 Jan 0000 00:00:00 GMT",
        b"Sun, 06-Nov-94 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Sun Nov 06 08:49:37 94",
        b"Sun Nov 6 08:49:37 1994",
        b"1994-11-06T08:49:37Z",
        b"Sun, 06 Nov 1994 08:49:37 GMT" * 100,
    ],
    ids=lambda value: repr(value[:32]),
)
def test_anything_else_is_nothing(value: bytes) -> None:
    assert parse_retry_after(value, NOW_S) is None


@pytest.mark.parametrize(
    ("value", "now_s", "seconds"),
    [
        (b"Monday, 15-Jun-26 12:00:30 GMT", YEAR_2026_S, 30.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", YEAR_2026_S, 0.0),  # 1994, not 2094
        (b"Monday, 15-Jun-76 12:00:00 GMT", YEAR_2026_S, 3_359_448_000.0 - YEAR_2026_S),  # 50 years ahead
        (b"Wednesday, 15-Jun-77 12:00:00 GMT", YEAR_2026_S, 0.0),  # 1977
        (b"Saturday, 01-Jan-00 00:00:05 GMT", 946_684_795.0, 10.0),  # at the end of 1999
        (b"Friday, 31-Dec-99 23:59:59 GMT", 946_684_800.0, 0.0),  # a second later
    ],
)
def test_a_year_of_two_digits_is_the_latest_that_is_not_more_than_50_years_ahead(
    value: bytes, now_s: float, seconds: float
) -> None:
    assert parse_retry_after(value, now_s) == seconds


@pytest.mark.parametrize("now_s", [0.0, -1e9, 4e9, 2.5e11])
def test_a_clock_that_is_far_off_breaks_nothing(now_s: float) -> None:
    for value in (b"5", b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT"):
        seconds = parse_retry_after(value, now_s)
        assert seconds is not None
        assert seconds >= 0


PARTS = st.sampled_from(
    [b"Sun", b"Sunday", b", ", b" ", b"06", b"Nov", b"-", b"94", b"1994", b"08:49:37", b"GMT", b"6"]
)


@given(st.one_of(st.binary(max_size=64), st.lists(PARTS, max_size=12).map(b"".join)))
def test_no_bytes_are_too_strange(value: bytes) -> None:
    seconds = parse_retry_after(value, YEAR_2026_S)
    assert seconds is None or seconds >= 0
