"""Redis with a clock that a test moves: its scripts read the time from a key."""

from __future__ import annotations

import hashlib
import time
from fractions import Fraction

import pytest

from vastar_runtime.shared import redis_allowances, redis_link, redis_rate_limits, redis_scripts
from vastar_runtime.shared.redis_limits import RedisLimits
from vastar_runtime.shared.redis_scripts import Script

_ASKED = b"redis.call('TIME')"


class RedisClock:
    """For Redis from the first ``set`` on; and a clock for what counts here, in seconds since the test began.

    Attributes:
        us: Unix microseconds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Later than all that happens in Redis' own time, and in the middle of a slot and a period.
        self.us = self.began_us = (time.time_ns() // 1000 // 3_600_000_000 + 2) * 3_600_000_000 + 123_456
        moved = {script: _with_key(script) for script in redis_scripts.ALL}
        for module in (redis_link, redis_rate_limits, redis_allowances):
            for name, value in list(vars(module).items()):
                if isinstance(value, Script):
                    monkeypatch.setattr(module, name, moved[value])
        monkeypatch.setattr(redis_link, "ALL", tuple(moved.values()))

    def __call__(self) -> float:
        return (self.us - self.began_us) / 1_000_000

    def unix(self) -> float:
        """In seconds since 1970, and exact."""
        return Fraction(self.us, 1_000_000)  # type: ignore[return-value]

    async def set(self, limits: RedisLimits, us: int) -> None:
        """It is so late now."""
        self.us = us
        session = limits._link.session()
        await session.command(b"MSET", b"clock_s", us // 1_000_000, b"clock_us", us % 1_000_000)


def _with_key(script: Script) -> Script:
    assert script.source.count(_ASKED) == 1
    key = b"(redis.call('EXISTS', 'clock_s') == 1 and redis.call('MGET', 'clock_s', 'clock_us') or redis.call('TIME'))"
    source = script.source.replace(_ASKED, key)
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
