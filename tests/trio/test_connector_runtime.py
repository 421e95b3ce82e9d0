"""The runtime connector: who may ask, what it answers, and what it does not take."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

import msgspec
import pytest
import trio
from session_under_test import captured_log, session
from stream_client import delivered, greet
from wire_client import WireClient, connected, execute_request

from connector_sdk.wire import ErrorClass, ExecuteResponse, ResponseEnd, ResponseMode
from vastar_runtime import exact_json
from vastar_runtime.config import Examined, Listen, Settings
from vastar_runtime.config.loading import Mistake
from vastar_runtime.config.policy import DeadlinePolicy, Policy
from vastar_runtime.connectors import CONNECTORS, Services
from vastar_runtime.connectors.base import Reloaded
from vastar_runtime.daemon import Daemon
from vastar_runtime.http.pool import Pool
from vastar_runtime.policies.peer import Peer

RELOADED = Reloaded(file="/etc/x.toml", mistakes=(), settings=5, scopes=3, needs_restart=("listen.tcp_port",))


class Snapshot(msgspec.Struct):
    seen: int


class Asked:
    """In the daemon's place."""

    def __init__(self) -> None:
        self.reloads = 0
        self.begun = trio.Event()
        self.may_go_on = trio.Event()
        self.may_go_on.set()

    async def statistics(self) -> Snapshot:
        return Snapshot(7)

    async def reload(self) -> Reloaded:
        self.begun.set()
        await self.may_go_on.wait()
        self.reloads += 1
        return RELOADED


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def services(asked: Asked) -> Services:
    return Services(Pool(), None, control=asked)  # type: ignore[arg-type]


def unix_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends are this process's, which the kernel knows."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    return ours, theirs


def somebody(monkeypatch: pytest.MonkeyPatch, uid: int | None) -> None:
    peer = None if uid is None else Peer(uid=uid, gid=uid, pid=1)
    monkeypatch.setattr("vastar_runtime.server.session.peer_of", lambda _: peer)


def question(operation: str = "statistics", request_id: int = 1, **fields: Any) -> Any:
    return execute_request(request_id, None, connector_name="runtime", operation=operation, **fields)


async def ask(client: WireClient, operation: str = "statistics", **fields: Any) -> Any:
    await client.send(question(operation, **fields))
    return await client.answer()


async def test_its_own_user_may_ask_by_the_kernels_word(services, asked):
    async with session(services, pair=unix_pair) as (client, _):
        answer = await ask(client)
        assert (answer.error_class, answer.payload) == (ErrorClass.SUCCESS, {"seen": 7})
        assert (await ask(client, "reload")).payload == {
            "file": "/etc/x.toml",
            "mistakes": [],
            "settings": 5,
            "scopes": 3,
            "needs_restart": ["listen.tcp_port"],
        }
    assert asked.reloads == 1


async def test_a_path_that_is_no_text_is_told_so_exactly_that_it_can_be_used(services, asked, monkeypatch):
    path = os.fsdecode(b"/home/J\xf6rg/\xe6\xa8\xa1/x.toml")
    monkeypatch.setattr(sys.modules[__name__], "RELOADED", msgspec.structs.replace(RELOADED, file=path))
    async with session(services, pair=unix_pair) as (client, _):
        await client.send(question("reload"))
        answer = await client.receive()
    assert answer.payload.isascii()
    assert exact_json.decode(answer.payload, Reloaded) == RELOADED
    assert RELOADED.file == path


@pytest.mark.parametrize(
    ("own", "peer", "may"), [(1000, 1000, True), (1000, 0, True), (0, 0, True), (1000, 1001, False), (0, 1000, False)]
)
@pytest.mark.parametrize("operation", ["reload", "statistics"])
async def test_its_own_user_and_root_may_and_nobody_else(services, asked, monkeypatch, own, peer, may, operation):
    somebody(monkeypatch, peer)
    monkeypatch.setattr(os, "geteuid", lambda: own)
    async with session(services) as (client, _):
        answer = await ask(client, operation)
    if may:
        assert answer.error_class is ErrorClass.SUCCESS
    else:
        assert answer.error_class is ErrorClass.PERMANENT
        assert answer.message == (
            f"uid {peer} may not ask the runtime about itself: that is for its own user (uid {own}) and for root"
        )
        assert answer.payload is None
    assert asked.reloads == (may and operation == "reload")


@pytest.mark.parametrize("operation", ["reload", "statistics"])
async def test_whom_the_kernel_does_not_name_may_not(services, asked, operation):
    async with session(services) as (client, _):  # memory streams, as TCP, have no peer
        answer = await ask(client, operation)
    assert answer.error_class is ErrorClass.PERMANENT
    assert answer.message == "the runtime tells about itself on its Unix socket only"
    assert asked.reloads == 0


async def test_a_client_that_said_hello_may_ask_in_either_form(services):
    async with session(services, pair=unix_pair) as (client, _):
        await greet(client)
        await client.send(question())
        answer = await client.receive()
        assert isinstance(answer, ExecuteResponse)
        assert answer.payload == b'{"seen":7}'


@pytest.mark.parametrize("operation", ["reload", "statistics"])
async def test_it_is_no_stream(services, asked, operation):
    async with session(services, pair=unix_pair) as (client, _):
        await greet(client)
        await client.send(question(operation, response_mode=ResponseMode.STREAM))
        stream = await delivered(client)
        assert (stream.head, stream.pieces) == (None, [])
        assert isinstance(stream.end, ResponseEnd)
        assert stream.error_class is ErrorClass.INVALID_REQUEST
        assert stream.message == f"runtime {operation} is no stream; ask with response_mode Buffered"
    assert asked.reloads == 0


@pytest.mark.parametrize(
    ("operation", "quoted"),
    [
        ("", "''"),
        ("Reload", "'Reload'"),
        ("stop\x1b[2J\n", r"'stop\x1b[2J\n'"),
        ("x" * 10_000, f"'{'x' * 64}'"),
    ],
)
async def test_an_unknown_operation_is_told_with_those_there_are(services, asked, operation, quoted):
    async with session(services, pair=unix_pair) as (client, _):
        answer = await ask(client, operation)
    assert answer.error_class is ErrorClass.INVALID_REQUEST
    assert answer.message == f"Unknown operation: {quoted} (known: reload, statistics)"
    assert asked.reloads == 0


async def test_whatever_stands_in_the_payload_is_not_looked_at(services):
    async with session(services, pair=unix_pair) as (client, _):
        for payload in (b"", b"\xff" * 1000, b'{"url": "http://h"}'):
            await client.send(execute_request(1, payload, connector_name="runtime", operation="statistics"))
            assert (await client.answer()).payload == {"seen": 7}


async def test_no_time_limit_of_the_configuration_keeps_an_operator_out(services, asked, monkeypatch, autojump_clock):
    """A disk may be slow; the settings say a millisecond, and that is what the operator comes to change."""
    somebody(monkeypatch, os.geteuid())
    policy = Policy(deadline=DeadlinePolicy(max_duration_ms=1, idle_timeout_ms=1))
    asked.may_go_on = trio.Event()
    async with session(services, policy=policy) as (client, _):
        await client.send(question("reload"))
        await asked.begun.wait()
        await trio.sleep(50)
        asked.may_go_on.set()
        assert (await client.answer()).payload["scopes"] == 3
    assert asked.reloads == 1


async def test_a_client_that_leaves_takes_its_question_with_it(services, asked):
    asked.may_go_on = trio.Event()
    async with session(services, pair=unix_pair) as (client, under_test):
        await client.send(question("reload"))
        await asked.begun.wait()
        assert under_test.active_requests == 1
    assert asked.reloads == 0  # the session has ended, and nothing waits


def test_it_is_one_of_the_connectors_that_are_known():
    assert sorted(CONNECTORS) == ["http", "runtime"]


# --- the daemon itself, in this process ---


class Disk:
    """Reads settings when it is let."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.mistakes: list[Mistake] = []
        self.fault: Exception | None = None
        self.reads = 0
        self.may_read = threading.Event()
        self.may_read.set()

    def __call__(self) -> Examined:
        self.reads += 1
        assert self.may_read.wait(20)
        if self.fault is not None:
            raise self.fault
        return Examined(self.settings, "/etc/x.toml", self.mistakes, {})


@pytest.fixture
async def disk(nursery):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vcr-") as directory:
        disk = Disk(Settings(listen=Listen(socket_path=f"{directory}/s")))
        ready, ended = trio.Event(), trio.Event()

        async def run() -> None:
            await Daemon(disk.settings, disk, ready.set).run()
            ended.set()

        nursery.start_soon(run)
        await ready.wait()
        yield disk
        disk.may_read.set()
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(20):
            await ended.wait()


@pytest.fixture(autouse=True)
def log():
    with captured_log() as log:
        yield log


async def until(condition: Any) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_a_disk_that_hangs_keeps_nobody_else_waiting_and_who_gives_up_gets_the_reload_all_the_same(disk, log):
    disk.may_read.clear()
    async with connected(disk.settings.listen.socket_path) as waiting:
        await waiting.send(question("reload"))
        await until(lambda: disk.reads == 1)
        async with connected(disk.settings.listen.socket_path) as other:
            assert (await other.health()).active_requests == 1
            assert "policies" in (await ask(other)).payload
    async with connected(disk.settings.listen.socket_path) as other:
        while (await other.health()).active_requests:
            pass
        disk.may_read.set()
        assert (await ask(other, "reload")).payload["mistakes"] == []
    assert disk.reads == log.getvalue().count("configuration reloaded") == 2


async def test_reloads_at_the_same_time_come_one_after_the_other(disk, log):
    disk.may_read.clear()
    async with connected(disk.settings.listen.socket_path) as client:
        for number in range(10):
            await client.send(question("reload", request_id=number + 1))
        signal.raise_signal(signal.SIGHUP)
        await until(lambda: disk.reads == 1)
        assert (await _health(disk)).active_requests == 10
        assert disk.reads == 1
        disk.may_read.set()
        answers = {(await client.answer()).request_id for _ in range(10)}
        assert answers == set(range(1, 11))
        await until(lambda: log.getvalue().count("configuration reloaded") == 11)


async def _health(disk: Disk) -> Any:
    async with connected(disk.settings.listen.socket_path) as other:
        return await other.health()


async def test_a_mistake_of_ours_while_it_reloads_ends_nothing(disk, log):
    disk.fault = RuntimeError("can't start new thread")
    async with connected(disk.settings.listen.socket_path) as client:
        answer = await ask(client, "reload")
        assert answer.error_class is ErrorClass.PERMANENT
        assert answer.message == "internal error of the runtime; its log has the details"
        signal.raise_signal(signal.SIGHUP)
        await until(lambda: log.getvalue().count("can't start new thread") == 2)
        disk.fault = None
        assert (await ask(client, "reload")).payload["mistakes"] == []


async def test_mistakes_change_nothing_and_are_all_in_the_answer_as_far_as_it_goes(disk, log):
    disk.mistakes = [Mistake((), f"/etc/x.toml:{line}: no" + "o" * 400) for line in range(1, 100_001)]
    async with connected(disk.settings.listen.socket_path) as client:
        told = (await ask(client, "reload")).payload
        assert told["mistakes"][0].startswith("/etc/x.toml:1: ")
        assert told["mistakes"][99].startswith("/etc/x.toml:100: ")
        assert told["mistakes"][100:] == ["99900 more mistakes: vastar-runtime config check tells all"]
        disk.mistakes = disk.mistakes[:100]
        assert len((await ask(client, "reload")).payload["mistakes"]) == 100
    assert "reloaded file" not in log.getvalue()
    assert log.getvalue().count("level=error") == 2
