"""``VASTAR_TIMEOUT``, which the daemon and its clients read alike."""

import math

# poll(2) counts milliseconds in an int; with a client's grace period on top this stays below 2**31. It is 23 days.
MAX_TIMEOUT_MS = 2_000_000_000


def timeout_ms(text: str) -> int | None:
    """So many seconds, in milliseconds, at most MAX_TIMEOUT_MS; None: it is no number above 0."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    if not (seconds > 0 and math.isfinite(seconds)):
        return None
    # Less than a millisecond is one: nobody sees the difference. Nor does anybody wait for longer than the longest.
    return max(1, round(min(seconds * 1000, MAX_TIMEOUT_MS)))
