"""The doctor on what lies where a daemon makes its lock."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doctor_circumstances import seen

from vastar_runtime.cli.doctor_checks import socket_lock
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.socket_lock import lock_in_the_way
from vastar_runtime.cli.doctor_checks.socket_place import check_socket


@pytest.fixture
def lock() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory:
        yield Path(directory) / "s.lock"


def findings(lock: Path) -> list[Finding]:
    path = str(lock).removesuffix(".lock")
    return list(check_socket(seen(lock.parent, {"VASTAR_SOCKET_PATH": path})))


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("a directory", Path.mkdir),
        ("a symbolic link", lambda path: path.symlink_to("/tmp/v-nothing")),
        ("a FIFO", os.mkfifo),
    ],
)
def test_what_is_no_file_keeps_a_daemon_from_starting(kind: str, make: Callable[[Path], None], lock: Path) -> None:
    make(lock)
    socket, found = findings(lock)
    assert socket.state is State.OK
    assert (found.name, found.state, found.command) == ("socket's lock", State.PROBLEM, f"ls -ld {lock}")
    assert found.found.startswith(f"{lock} is {kind} of ")


def test_a_lock_that_was_left_behind_is_none_of_it(lock: Path) -> None:
    lock.write_text("4711\n")
    lock.chmod(0o600)
    assert len(findings(lock)) == 1


@pytest.fixture
def is_of_another(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat

    def of_another(path: str) -> os.stat_result:
        status = list(real(path))
        if str(path) == str(lock):
            status[stat.ST_UID] = 4321
        return os.stat_result(status)

    monkeypatch.setattr(os, "lstat", of_another)


@pytest.mark.usefixtures("is_of_another")
def test_a_file_that_somebody_has_put_there_may_not_be_opened(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.touch()
    lock.chmod(0o666)
    lock.parent.chmod(0o1777)
    for is_protected, count in ((True, 2), (False, 1)):
        monkeypatch.setattr(socket_lock, "_is_protected", lambda is_protected=is_protected: is_protected)
        assert len(findings(lock)) == count
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(findings(lock)) == 2


@pytest.mark.usefixtures("is_of_another")
@pytest.mark.parametrize(
    ("mode", "may_write", "is_removable"), [(0o770, True, True), (0o1770, True, False), (0o770, False, False)]
)
def test_who_may_write_the_directory_may_remove_what_is_in_it_but_from_a_sticky_one(
    mode: int, may_write: bool, is_removable: bool, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(lock)
    lock.parent.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "access", lambda *_: may_write)
    [found] = lock_in_the_way(str(lock).removesuffix(".lock"))
    assert found.command == (f"ls -ld {lock}" if is_removable else None)
    assert found.remedy.endswith("and move it away" if is_removable else "; or uid 4321 can remove it")
