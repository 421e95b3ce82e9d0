"""The log that commands open, and the children that they start."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vastar_runtime.cli import background
from vastar_runtime.cli.background import PROXY_VARIABLES, end, open_log, private_environ, spawn, tail
from vastar_runtime.cli.demo import mask
from vastar_runtime.cli.doctor_checks.workshop import Workshop
from vastar_runtime.errors import StartupError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "log"
    fd = open_log(str(path))
    yield path, fd
    os.close(fd)


def test_a_log_is_made_for_its_owner_alone_and_appended_to(log: tuple[Path, int]) -> None:
    path, fd = log
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.write(fd, b"one\n")
    second = open_log(str(path))
    os.write(second, b"two\n")
    os.close(second)
    assert path.read_text() == "one\ntwo\n"


def test_a_umask_shuts_no_owner_out_of_a_log_that_is_new(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch(0o640)
    before = os.umask(0o777)
    try:
        for path in (new, old):
            os.close(open_log(str(path)))
    finally:
        os.umask(before)
    assert (stat.S_IMODE(new.stat().st_mode), stat.S_IMODE(old.stat().st_mode)) == (0o600, 0o640 & ~before)


def test_what_is_no_log_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "target").write_text("precious")
    path.symlink_to(tmp_path / "target")
    with pytest.raises(StartupError, match=r"log: it is a symbolic link; choose another with --log-file"):
        open_log(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StartupError, match=r"log: it is a FIFO; "):
        open_log(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # with a reader, a FIFO can be opened
    with pytest.raises(StartupError, match=r"log: it is a FIFO; "):
        open_log(str(path))
    os.close(reader)
    with pytest.raises(StartupError, match="cannot open the log /proc/log: No such file or directory; "):
        open_log("/proc/log")
    with pytest.raises(StartupError, match="cannot use the log /dev/null: it is a device; "):
        open_log("/dev/null")
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file another user's")
def test_another_users_file_is_no_log_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    os.chown(path, 1, 1)
    with pytest.raises(StartupError, match=r"cannot (open|use) the log .*(it belongs to .*uid 1|Permission denied)"):
        open_log(str(path))


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(str(path), 3) == []
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(10_000)) + b"\xff")
    assert tail(str(path), 3) == ["line 9998", "line 9999", "�"]
    path.unlink()
    os.mkfifo(path)
    assert tail(str(path), 3) == []


def test_a_child_that_ends_before_it_is_ready_is_told_with_its_exit_status(log: tuple[Path, int]) -> None:
    with pytest.raises(StartupError, match=r"^it ended before it was ready \(exit status 2\)$"):
        spawn(["no-such-command"], log[1], environ={**os.environ, "PYTHONPATH": str(ROOT)}, detached=True)
    assert "No such command 'no-such-command'" in log[0].read_text()


def test_a_child_that_does_not_get_ready_is_killed(
    log: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself hangs, as on a dead network file system; the pid is in the log."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, threading\nos.write(2, b'%d' % os.getpid())\nthreading.Event().wait()\n"
    )
    monkeypatch.setattr(background, "READY_TIMEOUT_S", 1.0)
    with pytest.raises(StartupError, match=r"^it was not ready within 1 s$"):
        spawn(["run"], log[1], environ={**os.environ, "PYTHONPATH": str(site)}, detached=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(log[0].read_text()), 0)


def test_a_module_in_the_working_directory_does_not_stand_in_for_ours(
    log: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    child = spawn(["simulator", "--port", "0"], log[1], environ={**os.environ, "PYTHONPATH": str(ROOT)}, detached=False)
    end(child.process)
    assert child.line.startswith("http://127.0.0.1:")
    assert "taken over" not in log[0].read_text()


def test_a_python_that_has_gone_is_told_by_all_who_start_one(
    log: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/none/python")
    with pytest.raises(StartupError, match=r"^cannot run /none/python: No such file or directory$"):
        spawn(["run"], log[1], environ={}, detached=True)
    why = r"^cannot start a run: /none/python: No such file or directory$"
    with Workshop() as workshop, pytest.raises(StartupError, match=why):
        workshop.start(["run"], {}, 1.0)


def test_a_private_child_sees_no_settings_of_this_machine_and_keeps_its_state_in_its_own_place() -> None:
    others = {"HOME": "/h", "SSL_CERT_FILE": "/c.pem", "HTTPS_PROXY": "http://p", "no_proxy": "a", "VAS": "1"}
    settings = {
        "VASTAR_CONFIG": "/c.toml",
        "VASTAR_WORKERS": "4",
        "OPENAI_API_KEY": "sk-1",
        "STATE_DIRECTORY": "/var/lib/v",
        "XDG_STATE_HOME": "/s",
    }
    own = {"VASTAR_CONFIG": "/dev/null", "XDG_STATE_HOME": "/private"}
    assert private_environ(others | settings, "/private") == others | own
    here = private_environ(others | settings, "/private", drop=("ssl_cert_", *PROXY_VARIABLES))
    assert here == {"HOME": "/h", "VAS": "1"} | own


def test_a_key_is_shown_by_its_last_four_characters_or_not_at_all() -> None:
    assert mask("sk-0123456789abcd") == "sk-…abcd"
    assert mask("0123456789abcd") == "…abcd"
    for short in ("", "sk-abcd", "sk-1234abcd"):
        assert mask(short) == "(too short to show)"
