"""What every command says of a socket's path that this user cannot use, and that there is a way out."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import run
from doctor_circumstances import HEALTH, one, seen

from vastar_runtime.cli import process, socket_file
from vastar_runtime.cli.asking import Refused
from vastar_runtime.cli.doctor_checks import socket_place
from vastar_runtime.cli.doctor_checks.finding import State
from vastar_runtime.cli.doctor_checks.socket_lock import lock_in_the_way
from vastar_runtime.cli.doctor_checks.socket_place import check_socket
from vastar_runtime.cli.probe import Found
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.config.permissions import user_name
from vastar_runtime.errors import StartupError

IS_ROOT = os.geteuid() == 0
NOBODY = 65534 if IS_ROOT else os.geteuid()
COMMANDS = ("status", "start", "stop", "restart", "reload", "clean")
ENVIRON = {"VASTAR_CONFIG": os.devnull}
codecs.lookup("ascii")
for module in ("clean", "control", "reload", "status"):  # by who may read this tree
    importlib.import_module(f"vastar_runtime.cli.{module}")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be another user")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "s"


@contextmanager
def nobody() -> Iterator[None]:
    """A user for whom modes count."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        importlib.invalidate_caches()  # what was looked for meanwhile was not found, perhaps


def leave_behind(path: Path, mode: int) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(mode)


def said(path: Path, *commands: str) -> dict[str, str]:
    """The last line that each command says to that user."""
    words = {}
    with nobody():
        for command in commands or COMMANDS:
            done = run(command, "--socket", str(path), environ=ENVIRON)
            line = done.output.splitlines()[-1].removeprefix("Error: ")
            words[command] = f"{line[0].lower()}{line[1:]}"
    return words


@needs_root
def test_a_socket_of_another_user_is_told_with_its_owner_and_a_way_out(path: Path) -> None:
    leave_behind(path, 0o755)
    why = f"permission denied on {path}: it belongs to root (uid 0), mode 0755, and nobody is seen to listen there"
    way_out = "; run this as root (uid 0), or choose another path with --socket"
    told = said(path)
    assert told.pop("clean") == f"{why}: left alone{way_out}"
    assert set(told.values()) == {f"{why}{way_out}"}
    with nobody():
        status = json.loads(run("status", "--json", "--socket", str(path), environ=ENVIRON).stdout)
        doctor = one(check_socket(seen(path.parent, {"VASTAR_SOCKET_PATH": str(path)})))
    assert (status["state"], status["running"], status["reason"]) == ("forbidden", None, f"{why}{way_out}")
    assert (doctor.state, doctor.found) == (State.PROBLEM, why)
    other_path = "; or choose another path with --socket or VASTAR_SOCKET_PATH"
    assert doctor.remedy == f"its owner, or root, can remove it{other_path}"
    with socket.socket(socket.AF_UNIX) as listening:
        path.unlink()
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o700)
        why = f"permission denied on {path}: it belongs to root (uid 0), mode 0700"
        assert set(said(path, "status", "stop").values()) == {f"{why}{way_out}"}
        with nobody():
            doctor = one(check_socket(seen(path.parent, {"VASTAR_SOCKET_PATH": str(path)})))
        assert doctor.remedy.endswith(other_path)


def test_this_user_s_own_directory_on_the_way_can_be_opened(path: Path) -> None:
    inner = path.parent / "inner"
    inner.mkdir()
    os.chown(inner, NOBODY, -1)
    inner.chmod(0o600)
    assert said(inner / "s", "start")["start"].endswith(f", mode 0600; let its owner in: chmod u+x {inner}")


def test_what_is_no_socket_is_told_as_such_to_who_may_write_it_and_to_who_may_not(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o644)
    what = f"{path}, which is a file of {user_name(os.geteuid())}, no socket"
    way_out = "; remove it, or choose another path with --socket"
    told = said(path)
    assert told.pop("clean") == (
        f"{path} is a file of {user_name(os.geteuid())}, no socket: left alone; see what it is, and remove it, or "
        "choose another path with --socket"
    )
    assert {words.removeprefix("not running: ") for words in told.values()} == {f"nobody listens on {what}{way_out}"}
    with nobody():
        doctor = one(check_socket(seen(path.parent, {"VASTAR_SOCKET_PATH": str(path)})))
    assert doctor.found == f"{path} is a file of {user_name(os.geteuid())}, no socket: no daemon starts there"
    path.unlink()
    path.symlink_to("nowhere")
    assert socket_file.no_socket(str(path)).startswith("a symbolic link of ")


def test_clean_removes_what_a_crash_has_left_with_a_mode_that_keeps_its_owner_out(path: Path) -> None:
    os.chown(path.parent, NOBODY, -1)
    lock = Path(f"{path}.lock")
    with nobody():
        leave_behind(path, 0)
        lock.touch(0)
        doctor = one(lock_in_the_way(str(path))) if not IS_ROOT else None  # os.access is about the real user
    for words in said(path, *COMMANDS[:-1]).values():
        assert words == (
            f"permission denied on {path}: it belongs to {user_name(NOBODY)}, mode 0000, and nobody is seen to listen "
            f"there; end and remove what is there (vastar-runtime clean --socket {path}), or let its "
            f"owner in: chmod u+rw {path}"
        )
    with nobody():
        found = one(check_socket(seen(path.parent, {"VASTAR_SOCKET_PATH": str(path)})))
        assert found.command == f"chmod u+rw {path}"
        cleaned = run("clean", "--socket", str(path), environ=ENVIRON)
    assert cleaned.output == f"Removed the socket {path}\nRemoved the lock {lock}\n"
    assert doctor is None or doctor.command == f"chmod u+rw {lock}"


def test_the_doctor_knows_this_user_s_own_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Path(f"{path}.lock")
    lock.touch(0)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert one(lock_in_the_way(str(path))).command == f"chmod u+rw {lock}"


def of_another(path: Path, uid: int = 54321) -> Found:
    return Found(state=OnSocket.RUNNING, socket_path=str(path), pid=os.getpid(), uid=uid, health=HEALTH)


def test_a_daemon_of_another_user_is_told_as_such(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Refused("the daemon on S refuses: uid 1 may not")

    for name in ("control", "status"):
        module = importlib.import_module(f"vastar_runtime.cli.{name}")
        monkeypatch.setattr(module, "probe", lambda path: of_another(path))
        if name != "control":
            monkeypatch.setattr(module, "ask_runtime", refuse)
    socket_option = ("--socket", str(path))
    started = run("start", *socket_option, environ=ENVIRON).stdout
    assert started.startswith("Already running\n")
    assert "\n   It belongs to uid 54321, who sees all requests and keys that go through it\n" in started
    assert json.loads(run("start", *socket_option, "--json", environ=ENVIRON).stdout)["notes"][0].startswith(
        "It belongs "
    )
    assert "\n   Owner: uid 54321\n" in run("status", *socket_option, environ=ENVIRON).stdout
    told = json.loads(run("status", *socket_option, "--json", environ=ENVIRON).stdout)
    assert (told["uid"], told["reason"]) == (54321, None)

    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(process, "is_runtime", lambda _pid: True)
    monkeypatch.setattr(process, "owner", lambda _pid: 54321)
    monkeypatch.setattr(signal, "pidfd_send_signal", forbid)
    with process.Process(os.getpid()) as held, pytest.raises(StartupError, match="belongs to uid 54321: not permitted"):
        held.send(signal.SIGTERM)


def test_the_doctor_warns_of_a_daemon_where_anybody_can_be_the_first_to_listen(path: Path) -> None:
    for mode, uid, state in (
        (0o755, 54321, State.OK),
        (0o1777, 54321, State.WARNING),
        (0o1777, 0, State.OK),
        (0o1777, os.geteuid(), State.OK),
    ):
        path.parent.chmod(mode)
        finding = socket_place._answered(str(path), of_another(path, uid))
        assert finding.state is state
        assert ("54321" in finding.found) is (uid == 54321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_the_doctor_warns_of_a_directory_that_a_stranger_has_made_where_anybody_may(path: Path) -> None:
    path.parent.chmod(0o1777)
    for uid, state in ((54321, State.WARNING), (0, State.OK)):
        inner = path.parent / f"of_{uid}"
        inner.mkdir(0o755)
        os.chown(inner, uid, uid)
        assert socket_place._answered(str(inner / "s"), of_another(path, 54321)).state is state
