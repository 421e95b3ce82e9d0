"""What was used is kept: of streams that are aborted, through kill -9, over restarts and workers; limits hold by it."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from model_upstream import ModelUpstream, chat
from reloadable_daemon import Reloadable, ask, reloadable
from stream_client import greet, stream_request
from upstream import upstream
from wire_client import WireClient

from connector_sdk.wire import BodyChunk, Cancel, CreditUpdate, ErrorClass, ResponseEnd, ResponseHead

LOAD_S = 2.5
BOTH = pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])


def configured(path: Path, text: str = "") -> str:
    return f"[usage]\nfile = '{path}'\n{text}"


async def usage_of(daemon: Reloadable, *options: str) -> dict[str, Any]:
    """What the command prints."""
    done = await daemon.command("usage", "--json", "--config", str(daemon.file), *options)
    assert (done.returncode, done.stderr) == (0, ""), done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def totals(path: Path) -> Counter[str]:
    """What is in the file; and that it is a sound one."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        columns = ("requests", "estimated_requests", "prompt_tokens", "completion_tokens")
        sums = ", ".join(f"coalesce(sum({column}), 0)" for column in columns)
        found = connection.execute(f"SELECT {sums} FROM usage").fetchone()
    connection.close()
    return Counter(dict(zip(columns, found, strict=True)))


class Aborting:
    """A client that has streams under way and ends each at a random point: by a Cancel, or by leaving."""

    def __init__(self, client: WireClient, choose: random.Random) -> None:
        self.events = 0
        self._client = client
        self._choose = choose
        self._left: dict[int, int] = {}  # events until each is aborted
        self._begun: set[int] = set()

    async def run(self, origin: str, streams: int, *, leaves: bool) -> None:
        await greet(self._client)
        for number in range(1, streams + 1):
            self._left[number] = self._choose.randrange(40)
            parameters = chat(origin, stream=True, max_tokens=40)
            parameters.pop("url")
            await self._client.send(stream_request(number, chat(origin)["url"], parameters=parameters))
        ended = 0
        while ended < streams:
            match await self._client.receive():
                case ResponseHead(request_id=number):
                    self._begun.add(number)
                    await self._look(number)
                case BodyChunk(request_id=number, data=data):
                    self.events += data.count(b"\n\n")
                    self._left[number] -= data.count(b"\n\n")
                    await self._client.send(CreditUpdate(request_id=number, credit_delta=len(data)))
                    await self._look(number)
                case ResponseEnd():
                    ended += 1
                case other:
                    raise AssertionError(other)
            if leaves and len(self._begun) == streams and ended > streams // 2:
                return

    async def _look(self, number: int) -> None:
        if self._left[number] <= 0:
            self._left[number] = 10**9
            await self._client.send(Cancel(request_id=number))


@pytest.mark.unmeasured
@BOTH
async def test_a_thousand_streams_aborted_at_random_points_are_all_in_the_usage(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "usage.db"
    model = ModelUpstream()
    async with upstream(model) as up:
        with reloadable(configured(path), "--workers", str(workers)) as daemon:
            aborting: list[Aborting] = []

            async def one(number: int) -> None:
                async with daemon.connect() as client:
                    aborting.append(Aborting(client, random.Random(number)))
                    await aborting[-1].run(up.origin, 50, leaves=number % 2 == 1)

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(one, number)
            assert daemon.running.stop() == 0
        found = totals(path)
        assert found["requests"] == 1000
        assert found["estimated_requests"] == 1000
        # Every word that a client got is there; and none that was not sent.
        assert sum(each.events for each in aborting) <= found["completion_tokens"] <= 2 * model.words + 1000
        assert found["prompt_tokens"] >= 1000 * ModelUpstream.prompt_tokens


@pytest.mark.unmeasured
@BOTH
async def test_kill_9_under_load_costs_at_most_the_last_second(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "usage.db"
    answered_at_s: list[float] = []
    async with upstream(ModelUpstream()) as up:
        with reloadable(configured(path), "--workers", str(workers)) as daemon:
            enough = trio.Event()

            async def ask() -> None:
                async with daemon.connect() as client:
                    with contextlib.suppress(trio.BrokenResourceError):  # as the daemon has gone
                        while True:
                            await client.begin(chat(up.origin, max_tokens=7))
                            if await client.receive() is None:
                                return
                            answered_at_s.append(trio.current_time())
                            if answered_at_s[-1] - answered_at_s[0] > LOAD_S:
                                enough.set()

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask)
                with trio.fail_after(20):
                    await enough.wait()
                daemon.running.signal(signal.SIGKILL)
                killed_at_s = trio.current_time()
                await trio.to_thread.run_sync(daemon.running.wait)
                nursery.cancel_scope.cancel()
            found = totals(path)
            assert found["requests"] >= sum(at_s < killed_at_s - 1.0 for at_s in answered_at_s) > 0
            assert found["requests"] <= len(answered_at_s) + 8
            assert found["completion_tokens"] == 7 * found["requests"]
            assert (await usage_of(daemon))["total"]["requests"] == found["requests"]


@pytest.mark.unmeasured
@BOTH
async def test_what_streams_have_used_so_far_is_there_after_kill_9_too(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "usage.db"
    model = ModelUpstream()
    model.goes_on = True
    async with upstream(model) as up:
        with reloadable(configured(path), "--workers", str(workers)) as daemon:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(4):
                    client = await stack.enter_async_context(daemon.connect())
                    await greet(client)
                    parameters = chat(up.origin, stream=True, max_tokens=25)
                    await client.send(stream_request(1, parameters.pop("url"), parameters=parameters))
                with trio.fail_after(20):
                    while not path.exists() or totals(path)["completion_tokens"] < 4 * 25:
                        await trio.sleep(0.05)
                daemon.running.signal(signal.SIGKILL)
                await trio.to_thread.run_sync(daemon.running.wait)
        found = totals(path)
        assert (found["requests"], found["estimated_requests"]) == (4, 4)
        assert model.words == 4 * 25 <= found["completion_tokens"] <= 3 * model.words


@pytest.mark.unmeasured
@BOTH
async def test_fifty_callers_never_use_more_than_the_limit(tmp_path: Path, workers: int) -> None:
    text = "[policy.token_limit]\nper_tenant = '200/min'\n"
    model = ModelUpstream()
    async with upstream(model) as up:
        with reloadable(configured(tmp_path / "usage.db", text), "--workers", str(workers)) as daemon:
            classes: Counter[ErrorClass] = Counter()

            async def call(number: int) -> None:
                async with daemon.connect() as client:
                    for _ in range(10):
                        answer = await client.execute(chat(up.origin, max_tokens=1 + number % 30))
                        classes[answer.error_class] += 1
                        if answer.error_class is ErrorClass.RATE_LIMITED:
                            assert "token_limit.per_tenant" in answer.message

            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(call, number)
            assert 100 <= model.used <= 200
            assert set(classes) == {ErrorClass.SUCCESS, ErrorClass.RATE_LIMITED}
            assert classes.total() == 500


@BOTH
async def test_a_budget_goes_on_after_a_restart_where_it_was(tmp_path: Path, workers: int) -> None:
    text = configured(tmp_path / "usage.db", "[[budget]]\nname = 'monthly'\ntokens = 150\n")
    model = ModelUpstream()
    async with upstream(model) as up:
        for _ in range(3):  # of 63 each, of which two fit
            with reloadable(text, "--workers", str(workers)) as daemon:
                async with daemon.connect() as client:
                    answer = await client.execute(chat(up.origin, max_tokens=60))
                status = await daemon.command("status")
        assert "Budget 'monthly' of tenant 'tenant': 126 of 150 tokens used" in status.stdout
        assert answer.error_class is ErrorClass.RATE_LIMITED
        assert answer.message.startswith("budget 'monthly' of tenant 'tenant' is used up: 126 of 150 tokens this month")
        assert model.used == 126


@BOTH
async def test_a_budget_whose_file_cannot_be_read_for_a_while_knows_its_month_again_when_it_can(
    tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "usage.db"
    text = configured(path, "[[budget]]\nname = 'monthly'\ntokens = 150\n")
    model = ModelUpstream()
    async with upstream(model) as up:
        with reloadable(text, "--workers", str(workers)) as daemon:
            async with daemon.connect() as client:
                for _ in range(2):
                    await client.execute(chat(up.origin, max_tokens=60))
        header = path.read_bytes()[:100]
        with path.open("r+b") as file:
            file.write(b"x" * 100)
        with reloadable(text, "--workers", str(workers)) as daemon:
            async with daemon.connect() as client:
                assert (await client.execute(chat(up.origin, max_tokens=60))).status == 200
                await daemon.wait_for_log("a budget begins with what is known here")
                with path.open("r+b") as file:
                    file.write(header)
                with trio.fail_after(20):  # the workers' files have pauses of their own
                    while "189 of 150" not in (await client.execute(chat(up.origin, max_tokens=80))).message:
                        await trio.lowlevel.checkpoint()
        assert model.used == 189


async def test_a_price_that_a_reload_changes_holds_from_then_on(tmp_path: Path) -> None:
    text = configured(tmp_path / "usage.db")
    async with upstream(ModelUpstream()) as up:
        with reloadable(text + "[[price]]\nmodel = '*'\ncompletion_per_million = 500000\n") as daemon:
            async with daemon.connect() as client:
                await client.execute(chat(up.origin, max_tokens=2))
                await daemon.reload(text + "[[price]]\nmodel = '*'\ncompletion_per_million = 1000000\n")
                await client.execute(chat(up.origin, max_tokens=2))
                await client.execute({"url": up.origin + "/v1/models"}, tenant_id="other")
            daemon.running.stop()
            (group, *others) = (await usage_of(daemon))["groups"]
            assert (group["name"], group["requests"], group["cost"]) == ("gpt-4o", 2, "3")
            assert [other["name"] for other in others] == [""]


@BOTH
async def test_a_state_directory_that_cannot_be_written_keeps_nobody_from_being_served_and_status_says_it(
    tmp_path: Path, workers: int
) -> None:
    place = tmp_path / "file"
    place.write_text("")
    async with upstream(ModelUpstream()) as up:
        with reloadable(configured(place / "usage.db"), "--workers", str(workers)) as daemon:
            async with daemon.connect() as client:
                assert (await client.execute(chat(up.origin))).status == 200
                await daemon.wait_for_log("usage is not written")
                reason = f"the usage file {place}/usage.db cannot be used: Not a directory; "
                assert (await ask(client, "statistics"))["usage_problem"].startswith(reason)
            asked = await daemon.command("status")
            assert f"\n   Usage: not written: {reason}" in asked.stdout
            place.unlink()
            place.mkdir()
            await daemon.wait_for_log("usage is written again")
            async with daemon.connect() as client:
                assert (await ask(client, "statistics"))["usage_problem"] is None
