"""Files that a reload cannot use, and files that change while it reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from reloadable_daemon import ONE_AN_HOUR, ask, lifted, reloadable, still_limited
from upstream import always, upstream

pytestmark = pytest.mark.unmeasured


async def test_a_file_with_mistakes_changes_nothing_and_each_is_told_with_its_line():
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            daemon.write(
                '[policy.rate_limit]\nper_tenant = "100/s"\n[policy.retry]\nmax_retrys = 1\n\n'
                '[[scope]]\ntenant = "a"\ndeadline.max_duration_ms = "10s"\norigin = "api.openai.com"\n'
            )
            done = await daemon.command("reload")
            assert (done.returncode, done.stdout) == (1, "")
            lines = done.stderr.splitlines()
            assert len(lines) == 3
            assert (
                lines[0] == f"Error: {daemon.file}:4: policy.retry.max_retrys: unknown key; did you mean max_retries?"
            )
            assert lines[1].startswith(f"Error: {daemon.file}:8: [[scope]] number 1: deadline.max_duration_ms: ")
            assert lines[2].startswith(f"Error: {daemon.file}:9: [[scope]] number 1: origin: found 'api.openai.com'")
            assert lines[2].endswith(" (nothing has changed)")
            await still_limited(daemon, up.origin)
            asked = await daemon.command("status")
            refused = f"the last reload was refused; correct this, and reload: {daemon.file}:4: policy.retry.max_retrys"
            assert f"   Configuration: {daemon.file} (as it was before: {refused}" in asked.stdout

            await daemon.wait_for_log("configuration not reloaded")
            [logged] = [line for line in daemon.running.log.splitlines() if "configuration" in line]
            assert f'level=error event="configuration not reloaded" file={daemon.file} mistakes=3 error=' in logged
            assert f"{daemon.file}:4: policy.retry.max_retrys" in logged
            await lifted(daemon, up.origin)
            async with daemon.connect() as client:
                assert (await ask(client, "statistics"))["reload_refused"] is None


def half_written(path: Path) -> None:
    path.write_text('[policy.rate_limit]\nper_tenant = "100/')


def deleted(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_100_mib(path: Path) -> None:
    os.truncate(path, 100 << 20)


def of_bytes(path: Path) -> None:
    path.write_bytes(b"[policy]\n\xff\xfe\x00")


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def a_terminal(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/ptmx")


HOSTILE: list[tuple[Callable[[Path], None], str]] = [
    (half_written, "FILE:2: this is no TOML: "),
    (deleted, "cannot read FILE: No such file or directory; vastar-runtime config example prints one to begin with"),
    (a_directory, "FILE is a directory, not a file"),
    (a_fifo, "FILE is no regular file"),
    (of_100_mib, "FILE is larger than 1 MiB: this is no configuration"),
    (of_bytes, "FILE:2: this is no UTF-8 text (byte 0xff)"),
    (a_link_to_itself, "cannot read FILE: Too many levels of symbolic links"),
    (a_terminal, "FILE is no regular file"),
]


@pytest.mark.parametrize(("make", "mistake"), HOSTILE, ids=[make.__name__ for make, _ in HOSTILE])
async def test_whatever_lies_in_the_files_place_is_one_line_and_changes_nothing(make, mistake):
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            make(daemon.file)
            done = await daemon.command("reload")
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"Error: {mistake.replace('FILE', str(daemon.file))}")
            assert done.stderr.endswith(" (nothing has changed)\n")
            assert done.stderr.count("\n") == 1
            await still_limited(daemon, up.origin)
            await lifted(daemon, up.origin)


async def test_a_file_of_nothing_but_mistakes_is_told_as_far_as_an_answer_goes():
    async with upstream(always(b"fine")) as up:
        with reloadable(ONE_AN_HOUR) as daemon:
            daemon.write("".join(f"{number:x}=1\n" for number in range(1000)))
            done = await daemon.command("reload")
            assert (done.returncode, done.stdout) == (1, "")
            lines = done.stderr.splitlines()
            assert lines[0].startswith(f"Error: {daemon.file}:1: 0: unknown key")
            assert "nothing has changed" in lines[-1]
            assert len(lines) == 101
            assert lines[-1].startswith("Error: 900 more mistakes: vastar-runtime config check ")
            assert "mistakes=1000" in daemon.running.log
            await still_limited(daemon, up.origin)
            await lifted(daemon, up.origin)


async def test_a_file_that_is_replaced_all_the_while_is_always_the_one_or_the_other():
    one = '[[scope]]\ntenant = "batch"\nrate_limit.per_tenant = "1/h"\n'
    other = "".join(f'[[scope]]\ntenant = "{number}"\nretry.max_retries = 0\n' for number in range(500))
    reloads, at_once = 10, 4
    seen = set()
    with reloadable(one) as daemon:
        is_over = trio.Event()

        async def alternate() -> None:
            while not is_over.is_set():
                for text in (other, one):
                    await trio.to_thread.run_sync(daemon.write, text)

        async def reload() -> None:
            async with daemon.connect() as client:
                for _ in range(reloads):
                    answer = await ask(client, "reload")
                    assert answer["mistakes"] == []
                    seen.add(answer["scopes"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(alternate)
            async with trio.open_nursery() as reloading:
                for _ in range(at_once):
                    reloading.start_soon(reload)
            is_over.set()
        assert seen <= {1, 500}
        assert await daemon.reload(other) == f"Reloaded {daemon.file}: 500 settings, 500 scopes\n"
        assert daemon.running.log.count("configuration reloaded") >= reloads * at_once


async def test_a_file_that_is_written_in_place_all_the_while_never_leaves_half_of_itself_behind():
    """A writer without care: what was read in its middle is a mistake, or a whole file by chance."""
    scopes = 500
    text = "".join(f'[[scope]]\ntenant = "{number}"\nretry.max_retries = 0\n' for number in range(scopes))
    with reloadable(text) as daemon:
        is_over = trio.Event()

        def write() -> None:
            with daemon.file.open("w") as file:
                file.write(text)

        async def write_on() -> None:
            while not is_over.is_set():
                await trio.to_thread.run_sync(write)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            async with daemon.connect() as client:
                for _ in range(40):
                    answer = await ask(client, "reload")
                    # Of a file that was just emptied nobody can tell that there will be more.
                    assert answer["scopes"] in (0, scopes)
                    assert all(str(daemon.file) in mistake for mistake in answer["mistakes"])
            is_over.set()
        assert await daemon.reload(text) == f"Reloaded {daemon.file}: {scopes} settings, {scopes} scopes\n"
