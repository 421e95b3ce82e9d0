"""Several daemons that share limits in one Redis, which is paused and killed meanwhile."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from daemon_process import refused
from model_upstream import ModelUpstream, chat
from redis_server import RedisServer, redis_server
from reloadable_daemon import Reloadable, reloadable
from upstream import always, upstream

from connector_sdk.wire import ErrorClass

LIMIT = "[policy.token_limit]\nper_tenant = '200/min'\n"
TEN_AN_HOUR = "[policy.rate_limit]\nper_tenant = '10/h'\n"


@contextlib.contextmanager
def daemons(redis: RedisServer, path: Path, text: str, fail: str = "closed") -> Iterator[list[Reloadable]]:
    """Two of one process and one of two workers, each with a file of its own."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                reloadable(
                    f"[shared_limits]\nbackend = 'unix://{redis.socket}'\nfail = '{fail}'\n"
                    f"[usage]\nfile = '{path / f'usage-{number}.db'}'\n{text}",
                    "--workers",
                    str(workers),
                )
            )
            for number, workers in enumerate((1, 1, 2))
        ]


@pytest.mark.unmeasured
async def test_fifty_callers_of_three_daemons_never_use_more_than_the_limit(tmp_path: Path) -> None:
    model = ModelUpstream()
    classes: Counter[ErrorClass] = Counter()
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        async with upstream(model) as up:
            with daemons(redis, tmp_path, LIMIT) as running:

                async def call(number: int) -> None:
                    async with running[number % 3].connect() as client:
                        for _ in range(8):
                            answer = await client.execute(chat(up.origin, max_tokens=1 + number % 30))
                            classes[answer.error_class] += 1

                async def restart() -> None:
                    while classes.total() < 40:
                        await trio.sleep(0.01)
                    redis.kill()
                    redis.start()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(restart)
                    for number in range(50):
                        nursery.start_soon(call, number)
                assert model.used <= 200
                assert set(classes) <= {ErrorClass.SUCCESS, ErrorClass.RATE_LIMITED}
                # And when it is there again, what was used is still used.
                await trio.to_thread.run_sync(redis.wait)
                with trio.fail_after(20):
                    while True:
                        async with running[0].connect() as client:
                            answer = await client.execute(chat(up.origin, max_tokens=150))
                        if "token_limit.per_tenant" in answer.message:
                            break
                assert 0 < model.used <= 200


@pytest.mark.unmeasured
async def test_a_rate_limit_holds_over_all_daemons(tmp_path: Path) -> None:
    with redis_server() as redis:
        async with upstream(always(b"fine")) as up:
            with daemons(redis, tmp_path, TEN_AN_HOUR) as running:
                answers = []
                for number in range(15):
                    async with running[number % 3].connect() as client:
                        answers.append(await client.execute({"url": up.origin}))
                assert [answer.error_class for answer in answers] == [ErrorClass.SUCCESS] * 10 + [
                    ErrorClass.RATE_LIMITED
                ] * 5
                assert len(up.requests) == 10


async def test_a_redis_that_hangs_holds_nobody_up_and_is_used_again_when_it_answers(tmp_path: Path) -> None:
    with redis_server() as redis:
        async with upstream(always(b"fine")) as up:
            with daemons(redis, tmp_path, TEN_AN_HOUR, fail="local") as running:
                daemon = running[0]
                async with daemon.connect() as client:
                    assert (await client.execute({"url": up.origin})).status == 200
                    redis.pause()
                    with trio.fail_after(5):
                        local = [await client.execute({"url": up.origin}) for _ in range(11)]
                    assert [answer.error_class for answer in local].count(ErrorClass.SUCCESS) == 10
                    await daemon.wait_for_log("shared limits unavailable")
                    redis.resume()
                    await daemon.wait_for_log("shared limits available again")
                    with trio.fail_after(20):  # of its own it has used up all
                        while (await client.execute({"url": up.origin})).error_class is not ErrorClass.SUCCESS:
                            pass


async def test_a_daemon_starts_without_redis_and_says_so(tmp_path: Path) -> None:
    with redis_server() as redis:
        redis.kill()
        async with upstream(always(b"fine")) as up:
            with daemons(redis, tmp_path, TEN_AN_HOUR, fail="closed") as running:
                async with running[0].connect() as client:
                    answer = await client.execute({"url": up.origin})
                assert answer.error_class is ErrorClass.RATE_LIMITED
                assert answer.message.startswith(f"limits cannot be checked: Redis at {redis.socket} does not answer")
                await running[0].wait_for_log("shared limits unavailable")
                status = await running[2].command("status")
                assert f"Shared limits: Redis at {redis.socket} cannot be asked" in status.stdout
                assert "what has such a limit is refused" in status.stdout


def test_a_password_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text("[shared_limits]\nbackend = 'redis://127.0.0.1:1'\npassword_env = 'NO_SUCH_PASSWORD'\n")
    told = refused(variables={"VASTAR_CONFIG": str(path)})
    assert told == "shared_limits.password_env: NO_SUCH_PASSWORD is not set in the daemon's environment"
