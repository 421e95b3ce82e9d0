"""No secret is to be seen: in no object's words, no error and what led to it, no line of the log."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from credentials_under_test import ORIGIN, credential, injection, running, until, value, write_long_ago
from session_under_test import captured_log
from trio.testing import MockClock

from vastar_runtime.credentials import CredentialError, Credentials
from vastar_runtime.credentials.errors import Unusable
from vastar_runtime.credentials.file_looks import FileLooks
from vastar_runtime.credentials.file_reading import look
from vastar_runtime.credentials.program import Program
from vastar_runtime.credentials.secret import Secret, secret_in

PLANTED = "sk-live-4f9a"
ENVIRON = {"KEY": PLANTED, "BROKEN": f"{PLANTED}\n{PLANTED}", "NO_TEXT": f"{PLANTED}ä"}


def shows(text: str) -> bool:
    """Also a part of it."""
    return PLANTED in text or PLANTED.encode().hex() in text or "4f9a" in text


def ours(root: object) -> Iterator[object]:
    """All objects of the room that can be got at from this one."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        found = waiting.pop()
        kind = type(found)
        is_ours = kind.__module__.startswith("vastar_runtime.credentials")
        is_passed = kind.__name__ in ("dict", "list", "tuple", "set", "method", "cell", "_lru_cache_wrapper")
        if id(found) in seen or not (is_passed or is_ours):
            continue
        seen[id(found)] = found
        if is_ours:
            yield found
        waiting += gc.get_referents(found)


async def everything(tmp_path: Path) -> Credentials:
    """A credential of each kind that is usable, and one that is not."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    write_long_ago(good, PLANTED)
    write_long_ago(bad, f"{PLANTED}\n{PLANTED}")
    credentials = Credentials(ENVIRON)
    await credentials.configure(
        [
            credential("env", env="KEY"),
            credential("broken", env="BROKEN"),
            credential("no-text", env="NO_TEXT"),
            credential("file", file=str(good)),
            credential("bad", file=str(bad)),
            credential("command", command=("/bin/sh", "-c", 'echo "$KEY"')),
            credential("twice", command=("/bin/sh", "-c", 'echo "$KEY"; echo "$KEY"')),
            credential("fails", command=("/bin/sh", "-c", 'echo "$KEY"; echo "$KEY" >&2; exit 1')),
        ]
    )
    return credentials


async def test_no_object_shows_the_secret_it_holds(tmp_path: Path, mock_clock: MockClock) -> None:
    with captured_log() as log:
        credentials = await everything(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(credentials.run)
            assert await injection(credentials, "command").ready() == PLANTED.encode()
            await until(lambda: all(found.problem or found.is_usable for found in credentials.statistics()))
            found = list(ours(credentials))
            found += [*credentials.statistics(), *credentials.for_request("t", ORIGIN)]
            nursery.cancel_scope.cancel()
    kinds = {type(one).__name__ for one in found}
    assert kinds >= {"Secret", "VariableSource", "FileSource", "CommandSource", "Injection", "Rules", "FileLooks"}
    for one in found:
        if type(one).__name__ != "_Place":  # what the file of the configuration says
            assert not shows(f"{one!r} {one!s} {one} {one!a}"), type(one)
    assert not shows(msgspec.json.encode(credentials.statistics()).decode())
    assert not shows(log.getvalue())
    assert log.getvalue().count("credential ready") == 3
    assert log.getvalue().count("credential cannot be used") == 5


async def test_no_error_of_a_request_shows_it_nor_what_led_to_it(tmp_path: Path, mock_clock: MockClock) -> None:
    credentials = await everything(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(credentials.run)
        for name in ("broken", "no-text", "bad", "twice", "fails"):
            with pytest.raises(CredentialError) as caught:
                await injection(credentials, name).ready()
            assert not shows(told(caught.value))
        nursery.cancel_scope.cancel()


def told(error: BaseException) -> str:
    """All that a traceback can say of an error, of its cause and its context, whether it is suppressed or not."""
    words = ["".join(traceback.format_exception(error)), repr(error), repr(vars(error)), repr(error.args)]
    for before in (error.__cause__, error.__context__):
        if before is not None:
            words.append(told(before))
    return "\n".join(words)


@pytest.mark.parametrize(
    "found", [f"{PLANTED}\n{PLANTED}", f"{PLANTED}\0", f"{PLANTED}ä", PLANTED * 2000, f"{PLANTED}\x7f"]
)
def test_no_error_shows_what_was_no_secret(found: str) -> None:
    with pytest.raises(Unusable) as caught:
        secret_in(found.encode())
    assert not shows(told(caught.value))


@pytest.mark.parametrize("environ", [{"A": f"{PLANTED}\0"}, {"A": f"{PLANTED}\ud800"}, {f"{PLANTED}=": ""}])
async def test_no_error_shows_the_environment(environ: dict[str, str], mock_clock: MockClock) -> None:
    with pytest.raises(Unusable) as caught:
        await Program(("/bin/true",), environ).output()
    assert not shows(told(caught.value))
    assert caught.value.__context__ is None


async def test_no_error_of_a_program_shows_what_it_printed(mock_clock: MockClock) -> None:
    for script in (f"echo {PLANTED}; exit 1", f"echo {PLANTED} >&2; kill $$", f"yes {PLANTED}"):
        with pytest.raises(Unusable) as caught:
            await Program(("/bin/sh", "-c", script), {"PATH": "/bin:/usr/bin"}).output()
        assert not shows(told(caught.value))


def test_what_threads_hand_over_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(PLANTED)
    assert not shows(repr(look(str(path), None)))
    assert f"{Secret(b'x')}" == repr(Secret(b"x")) == f"{Secret(b'x')!s}" == "<secret>"


async def test_no_line_of_the_log_shows_it_when_it_changes(tmp_path: Path, mock_clock: MockClock) -> None:
    path = tmp_path / "secret"
    write_long_ago(path, "first")
    with captured_log() as log:
        async with running(credential(file=str(path))) as credentials:
            for content in (f"{PLANTED}\n{PLANTED}", PLANTED):
                write_long_ago(path, content)
                await rounds(credentials, mock_clock, 3)
            assert value(credentials) == PLANTED
    assert not shows(log.getvalue())
    assert [line.partition(" ")[2] for line in log.getvalue().splitlines()] == [
        'level=info event="credential ready" name=a source=file',
        'level=warning event="credential not read again" name=a source=file '
        f'reason="the file {path} holds a line break"',
        'level=info event="credential ready" name=a source=file',
    ]


async def rounds(credentials: Credentials, clock: MockClock, number: int) -> None:
    looks, done = credentials._looks, 0

    async def look_at(*arguments: object) -> None:
        nonlocal done
        await FileLooks.look_at(looks, *arguments)  # type: ignore[arg-type]
        done += 1

    looks.look_at = look_at  # type: ignore[method-assign]
    for wanted in range(1, number + 1):
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(1)
        await until(lambda: done >= wanted)  # noqa: B023
