"""A client that sends more than its share: others get their turn."""

import pytest
import trio
from session_under_test import captured_log, session

from connector_sdk.wire import HealthCheck, encode_message
from vastar_runtime.server.session import EVENTS_PER_TURN


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log
    assert "level=error" not in log.getvalue()


@pytest.mark.parametrize(
    "frame", [encode_message(HealthCheck()), b"\0\0\0\1\0", b"\0\0\0\1\x63"], ids=["health", "malformed", "unknown"]
)
async def test_thousands_of_small_frames_in_one_write_let_others_run(frame, log):
    longest_turn = 0
    async with session() as (client, served), trio.open_nursery() as nursery:
        handle, turn = served._handle, 0

        def counting(event):
            nonlocal turn, longest_turn
            turn += 1
            longest_turn = max(longest_turn, turn)
            handle(event)

        async def neighbour():
            nonlocal turn
            while True:
                await trio.lowlevel.checkpoint()
                turn = 0

        served._handle = counting
        nursery.start_soon(neighbour)
        await client.send(frame * 3000)
        for _ in range(3000):
            await client.receive()
        nursery.cancel_scope.cancel()
    assert 0 < longest_turn <= 2 * EVENTS_PER_TURN
