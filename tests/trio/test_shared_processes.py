"""Three processes, fifty callers, one limit of 100 tokens, and a Redis that is killed and restarted meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio
from redis_server import RedisServer, redis_server

CALLERS = Path(__file__).with_name("redis_callers.py")
LIMIT = 100
LASTS_S = 10.0
NS_PER_S = 10**9


def most_in_a_window(recorded: list[tuple[int, int]], period_s: int) -> int:
    """The most that was used in any interval of this length, its ends included."""
    most = total = first = 0
    for at_ns, used in recorded:
        total += used
        while recorded[first][0] < at_ns - period_s * NS_PER_S:
            total -= recorded[first][1]
            first += 1
        most = max(most, total)
    return most


async def all_calls(server: RedisServer, period_s: int) -> list[tuple[int, int]]:
    """When how much was used, in the order of time."""
    outputs: list[str] = []

    async def process(number: int, callers: int) -> None:
        words = [server.socket, period_s, callers, LASTS_S, number]
        done = await trio.run_process(
            [sys.executable, "-W", "error", CALLERS, *map(str, words)], capture_stdout=True, stderr=subprocess.STDOUT
        )
        outputs.append(done.stdout.decode())

    async def restarts() -> None:
        for down_s in (0.7, 0.0):
            await trio.sleep(2.5)
            server.kill()
            await trio.sleep(down_s)
            server.start()

    async with trio.open_nursery() as nursery:
        for number, callers in enumerate((17, 17, 16)):
            nursery.start_soon(process, number, callers)
        nursery.start_soon(restarts)
    lines = [line for output in outputs for line in output.splitlines() if "[" not in line]
    return sorted((int(at_ns), int(used)) for at_ns, used in (line.split(" ") for line in lines))


@pytest.mark.parametrize(
    ("persistence", "period_s"), [pytest.param("none", 60, marks=pytest.mark.unmeasured), ("appendonly yes", 3)]
)
async def test_no_window_ever_holds_a_hundred_and_one_tokens(persistence: str, period_s: int) -> None:
    options = () if persistence == "none" else ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(*options) as server:
        recorded = await all_calls(server, period_s)
    assert most_in_a_window(recorded, period_s) <= LIMIT
    total = sum(used for _, used in recorded)
    if period_s == 60:
        assert total > LIMIT * 0.8, "the limit is hardly used"
    else:
        assert total > LIMIT * 1.2, "what was used never comes back"
