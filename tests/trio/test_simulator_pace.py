"""When pieces of an answer come, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from vastar_runtime.simulator.pace import Pace, Paced
from vastar_runtime.simulator.settings import SimulatorSettings

PIECES = [b"a", b"b", b"c"]


async def times(work_s: float = 0, **options: float) -> list[float]:
    begin = trio.current_time()
    found = []
    async for _ in Paced(PIECES, Pace(SimulatorSettings(**options))):
        found.append(round(trio.current_time() - begin, 6))
        await trio.sleep(work_s)
    return found


async def test_pieces_come_at_the_pace_that_was_asked_for(autojump_clock: MockClock) -> None:
    assert await times() == [0, 0.02, 0.04]
    assert await times(tokens_per_second=4, first_token_ms=1500) == [1.5, 1.75, 2]
    assert await times(tokens_per_second=0) == [0, 0, 0]
    assert await times(tokens_per_second=0, first_token_ms=300) == [0.3, 0.3, 0.3]


async def test_the_time_that_a_piece_takes_is_part_of_the_pause_and_a_delay_is_not_made_up_for(
    autojump_clock: MockClock,
) -> None:
    assert await times(0.1, tokens_per_second=4) == [0, 0.25, 0.5]
    assert await times(0.4, tokens_per_second=4) == [0, 0.4, 0.8]


async def test_jitter_is_a_share_of_each_pause_and_the_same_with_the_same_seed(autojump_clock: MockClock) -> None:
    options = {"tokens_per_second": 1, "first_token_ms": 1000, "jitter": 0.5}
    found = await times(seed=7, **options)
    assert found == await times(seed=7, **options)
    assert found != await times(seed=8, **options)
    pauses = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert all(0.5 <= pause <= 1.5 for pause in pauses)
    assert len(set(pauses)) == 3


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_no_pause_is_negative(jitter: float) -> None:
    pace = Pace(SimulatorSettings(jitter=jitter, tokens_per_second=10, first_token_ms=10))
    assert all(pace.next_s() >= 0 and pace.first_s() >= 0 for _ in range(1000))
