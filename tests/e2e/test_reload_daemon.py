"""Other settings for a daemon that goes on: what a reload changes, what it leaves, and who may have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from command_place import place
from reloadable_daemon import ONE_AN_HOUR, Held, as_nobody, ask, reloadable, still_limited
from upstream import Peer, always, upstream
from wire_client import connected

from connector_sdk.wire import ErrorClass

NO_SECOND_CHANCE = "[policy.retry]\nmax_retries = 0\n[policy.circuit_breaker]\nconsecutive_failures = 1\n"
BATCH_ONE_AN_HOUR = '[[scope]]\ntenant = "batch"\nrate_limit.per_tenant = "1/h"\n'


# --- what is applied, and to whom ---


async def test_a_new_limit_holds_from_the_next_request_on():
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                for _ in range(3):
                    assert (await client.get(up.origin)).body == "fine"
                assert await daemon.reload(ONE_AN_HOUR) == f"Reloaded {daemon.file}: 1 setting, 0 scopes\n"
                assert (await client.get(up.origin)).body == "fine"
                assert (await client.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
            await daemon.wait_for_log(f'event="configuration reloaded" file={daemon.file} settings=1 scopes=0')


@pytest.mark.unmeasured
async def test_a_limit_that_is_used_up_stays_so():
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            async with daemon.connect() as client:
                assert (await client.get(up.origin)).body == "fine"
                assert (await client.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                await daemon.reload(ONE_AN_HOUR + "[policy.retry]\nmax_retries = 1\n" + BATCH_ONE_AN_HOUR)
                async with daemon.connect() as other:
                    assert (await client.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                    assert (await other.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                # What was taken counts against a higher rate too.
                await daemon.reload('[policy.rate_limit]\nper_tenant = "2/h"\n')
                assert ErrorClass.RATE_LIMITED in [(await client.get(up.origin)).error_class for _ in range(2)]


@pytest.mark.unmeasured
async def test_a_circuit_that_is_open_stays_so():
    async with upstream(always(status=503)) as up:
        with reloadable(NO_SECOND_CHANCE) as daemon:
            async with daemon.connect() as client:
                assert (await client.get(up.origin)).status == 503
                await daemon.reload(NO_SECOND_CHANCE + "open_ms = 1000\n" + BATCH_ONE_AN_HOUR)
                async with daemon.connect() as other:
                    for asking in (client, other):
                        answer = await asking.get(up.origin)
                        assert answer.error_class is ErrorClass.TRANSIENT
                        assert answer.message.startswith(f"circuit open for {up.origin}, next probe in ")
        assert len(up.requests) == 1


@pytest.mark.unmeasured
async def test_a_request_in_flight_keeps_its_time_limit_and_the_next_one_has_the_new_one():
    held = Held()
    async with upstream(held) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client, daemon.connect() as other:
                await client.begin({"url": f"{up.origin}/held"})
                await held.came.wait()
                await daemon.reload("[policy.deadline]\nmax_duration_ms = 1\n")
                timed_out = await other.get(f"{up.origin}/held")
                assert timed_out.error_class is ErrorClass.TIMEOUT
                assert "1 ms" in timed_out.message
                held.go_on.set()
                assert (await client.answer()).body == "late"
                # An operator gets out of that again, whatever the limit is.
                await daemon.reload("")
                assert (await other.get(up.origin)).body == "at once"


@pytest.mark.unmeasured
async def test_a_request_in_flight_retries_as_it_was_told_when_it_began():
    held = Held(status=503)
    async with upstream(held) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                await client.begin({"url": f"{up.origin}/held"})
                await held.came.wait()
                await daemon.reload("[policy.retry]\nmax_retries = 0\n")
                held.go_on.set()
                answer = await client.answer()
                assert (answer.status, answer.body) == (200, "at once")


@pytest.mark.unmeasured
async def test_a_request_in_flight_is_redirected_and_retried_there_as_it_was_told_when_it_began():
    came, go_on = trio.Event(), trio.Event()
    answers = {"/held": [302], "/there": [503, 200, 503]}

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target == "/held":
                came.set()
                await go_on.wait()
            await peer.respond(status=answers[request.target].pop(0), headers=[("Location", "/there")])

    async with upstream(script) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                await client.begin({"url": f"{up.origin}/held"})
                await came.wait()
                await daemon.reload("[policy.retry]\nmax_retries = 0\n")
                go_on.set()
                assert (await client.answer()).status == 200
                assert (await client.get(f"{up.origin}/there")).status == 503


@pytest.mark.unmeasured
async def test_a_place_that_is_taken_counts_against_the_new_number_of_places():
    """Nobody who runs or waits is turned out, and a higher number lets in who waits, at once."""
    held = Held()
    async with upstream(held) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client, daemon.connect() as other:
                await client.begin({"url": f"{up.origin}/held"})
                await held.came.wait()
                await daemon.reload("[admission]\nmax_concurrent = 1\nmax_queued = 1\n")
                waiting = await other.begin({"url": up.origin})
                async with daemon.connect() as third:
                    while not (await ask(third, "statistics"))["policies"]["admission"]["waiting"]:
                        pass
                    assert (await third.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                await daemon.reload("[admission]\nmax_concurrent = 2\n")
                answer = await other.answer()
                assert (answer.request_id, answer.body) == (waiting, "at once")
                held.go_on.set()
                assert (await client.answer()).body == "late"


@pytest.mark.unmeasured
async def test_scopes_come_and_go():
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            async with daemon.connect() as client:

                async def asks(tenant: str, times: int) -> list[str]:
                    answers = [await client.execute({"url": up.origin}, tenant_id=tenant) for _ in range(times)]
                    return [answer.error_class.name for answer in answers]

                said = await daemon.reload(BATCH_ONE_AN_HOUR)
                assert said == f"Reloaded {daemon.file}: 1 setting, 1 scope\n"
                assert await asks("batch", 2) == ["SUCCESS", "RATE_LIMITED"]
                assert await asks("other", 2) == ["SUCCESS", "SUCCESS"]

                said = await daemon.reload(
                    f'[[scope]]\norigin = "{up.origin}"\ndeadline.max_duration_ms = 50000\n'
                    + BATCH_ONE_AN_HOUR.replace("batch", "other")
                )
                assert said == f"Reloaded {daemon.file}: 2 settings, 2 scopes\n"
                assert await asks("batch", 2) == ["SUCCESS", "SUCCESS"]
                assert await asks("other", 2) == ["SUCCESS", "RATE_LIMITED"]

                assert await daemon.reload("") == f"Reloaded {daemon.file}: it sets nothing, the defaults hold\n"
                assert await asks("other", 2) == ["SUCCESS", "SUCCESS"]


async def test_listeners_wait_for_a_restart_which_is_said_and_the_rest_is_applied():
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            async with daemon.connect() as client:
                for _ in range(2):  # the second time it still differs from how the daemon listens
                    said = await daemon.reload('[listen]\nsocket_mode = "0666"\ntcp_port = 0\n' + ONE_AN_HOUR)
                    assert said == (
                        f"Reloaded {daemon.file}: 3 settings, 0 scopes\n"
                        "   Only after a restart: listen.socket_mode, listen.tcp_port "
                        f"(vastar-runtime restart --socket {daemon.running.socket_path})\n"
                    )
                assert Path(daemon.running.socket_path).stat().st_mode & 0o777 == 0o600
                await client.get(up.origin)
                assert (await client.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                assert await daemon.reload(ONE_AN_HOUR) == f"Reloaded {daemon.file}: 1 setting, 0 scopes\n"
            await daemon.wait_for_log("needs_restart=listen.socket_mode,listen.tcp_port")


async def test_without_a_file_the_defaults_are_reloaded():
    with reloadable(VASTAR_CONFIG="") as daemon:
        done = await daemon.command("reload")
        where = "Reloaded: there is no file, the defaults hold\n"
        assert done.returncode == 0, done.stderr
        assert done.stdout == where or Path("/etc/vastar/runtime.toml").exists()


# --- who may, and who is never kept out ---


async def test_an_operator_gets_through_when_nobody_else_does():
    held = Held()
    async with upstream(held) as up:
        with reloadable("[admission]\nmax_concurrent = 1\nmax_queued = 0\n") as daemon:
            async with daemon.connect() as client, daemon.connect() as other:
                await client.begin({"url": f"{up.origin}/held"})
                await held.came.wait()
                assert (await other.get(up.origin)).error_class is ErrorClass.RATE_LIMITED
                assert (await ask(other, "statistics"))["policies"]["admission"]["running"] == 1
                assert (await daemon.command("status")).returncode == 0
                await daemon.reload("")
                assert (await other.get(up.origin)).body == "at once"
                held.go_on.set()
                assert (await client.answer()).body == "late"


async def test_a_rate_limit_for_all_is_none_for_the_operator():
    with reloadable(ONE_AN_HOUR + '[[scope]]\ntenant = ""\nrate_limit.per_tenant = "1/h"\n') as daemon:
        async with daemon.connect() as client:
            for _ in range(5):
                assert (await ask(client, "reload"))["mistakes"] == []


async def test_over_tcp_nobody_may():
    with reloadable(VASTAR_USE_TCP="1", VASTAR_TCP_PORT="0") as daemon:
        async with connected(daemon.running.tcp_port) as client:
            for operation in ("reload", "statistics"):
                answer = await client.execute(None, connector_name="runtime", operation=operation)
                assert answer.error_class is ErrorClass.PERMANENT
                assert answer.message == "the runtime tells about itself on its Unix socket only"
        assert "reloaded" not in daemon.running.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_may_not_though_the_socket_is_open_to_all():
    with reloadable("[admission]\nmax_queued = 0\n", "--socket-mode", "0666") as daemon:
        Path(daemon.running.socket_path).parent.chmod(0o755)
        daemon.environ["VASTAR_CONFIG"] = os.devnull
        argv = as_nobody("vastar_runtime.cli.status", "vastar_runtime.cli.reload")
        daemon.write(ONE_AN_HOUR)
        refusal = (
            f"the daemon on {daemon.running.socket_path} refuses: uid 65534 may not ask the runtime about itself: "
            "that is for its own user (uid 0) and for root"
        )
        reload = await daemon.command("reload", argv=argv)
        assert (reload.returncode, reload.stdout, reload.stderr) == (1, "", f"Error: {refusal}\n")
        status = await daemon.command("status", argv=argv)
        assert status.returncode == 0, status.stderr
        assert status.stdout.startswith("Running\n")
        assert status.stdout.endswith(f"   Active requests: 0\n   Limits and circuits: {refusal}\n")
        as_json = await daemon.command("status", "--json", argv=argv)
        assert as_json.returncode == 0
        assert as_json.stdout.rstrip().endswith(',"statistics":null}')
        assert "configuration reloaded" not in daemon.running.log


# --- nobody there, or nobody who can ---


async def test_nobody_there_is_one_line():
    with reloadable() as daemon:
        nowhere = f"{daemon.running.socket_path}.none"
        done = await daemon.command("reload", "--socket", nowhere)
        assert (done.returncode, done.stdout) == (3, "")
        way_out = f"start it with: vastar-runtime start --socket {nowhere}"
        assert done.stderr == f"Error: not running: nobody listens on {nowhere}; {way_out}\n"


async def test_a_file_that_the_daemon_does_not_run_with_is_refused():
    """The file of the command names the socket; but the daemon would read its own."""
    async with upstream(always(b"fine")) as up:
        with reloadable() as daemon:
            del daemon.environ["VASTAR_SOCKET_PATH"]
            callers = daemon.file.with_name("callers.toml")
            callers.write_text(f'[listen]\nsocket = "{daemon.running.socket_path}"\n[policy.retry]\nmax_retrys = 1\n')
            daemon.write(ONE_AN_HOUR)
            done = await daemon.command("reload", "--config", str(callers))
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == (
                f"Error: the daemon on {daemon.running.socket_path} runs with {daemon.file}; for another file: "
                f"vastar-runtime restart --config {callers}\n"
            )
            done = await daemon.command("reload", "--socket", daemon.running.socket_path, "--config", str(daemon.file))
            assert done.stdout == f"Reloaded {daemon.file}: 1 setting, 0 scopes\n", done.stderr
            await still_limited(daemon, up.origin)


async def test_a_daemon_that_was_started_in_the_background_reads_the_file_of_its_start_again():
    """Its working directory is another than that of who started it, with a relative path."""
    with place() as runtime:
        file = runtime.directory / "relative.toml"
        file.write_text("")
        started = await trio.to_thread.run_sync(lambda: runtime.run("start", "--config", "relative.toml"))
        assert started.returncode == 0, started.stderr
        file.write_text(BATCH_ONE_AN_HOUR)
        done = await trio.to_thread.run_sync(lambda: runtime.run("reload"))
        assert (done.returncode, done.stdout) == (0, f"Reloaded {file}: 1 setting, 1 scope\n"), done.stderr
