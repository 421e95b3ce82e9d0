"""What the doctor says to type is true, and does no harm."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from doctor_circumstances import HEALTH, STARTED, WELL, daemon, one, seen

from vastar_runtime.cli.doctor_checks import keeper, usage_damage
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances
from vastar_runtime.cli.doctor_checks.configuration import check_configuration_access, check_configuration_in_use
from vastar_runtime.cli.doctor_checks.credential_sources import check_credential_sources
from vastar_runtime.cli.doctor_checks.daemon import check_daemon
from vastar_runtime.cli.doctor_checks.finding import State
from vastar_runtime.cli.doctor_checks.kept_files import check_log, check_usage
from vastar_runtime.cli.doctor_checks.processes import DELETED, Manner
from vastar_runtime.cli.doctor_checks.restarting import restart
from vastar_runtime.cli.doctor_checks.socket_place import check_socket, check_socket_directory
from vastar_runtime.cli.doctor_checks.tls import check_trust_store_here
from vastar_runtime.cli.doctor_checks.variables import check_variables
from vastar_runtime.cli.probe import Found
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.config import Listen, examine
from vastar_runtime.daemon.environment import fingerprints
from vastar_runtime.metering.batch import UsageCounts, UsageKey
from vastar_runtime.metering.store import UsageStore


def test_nothing_is_moved_whatever_lies_in_the_way(tmp_path: Path) -> None:
    for path in ("/dev/null", "/etc/passwd", "/tmp", "/dev/zero"):
        environ = {"VASTAR_LOG_FILE": path, "VASTAR_SOCKET_PATH": path, "VASTAR_CONFIG": path}
        here = seen(tmp_path, environ, log_path=path)
        commands = {f.command for check in (check_log, check_socket, check_configuration_access) for f in check(here)}
        assert commands <= {"unset VASTAR_LOG_FILE", "unset VASTAR_SOCKET_PATH", None}


def test_a_tilde_that_no_shell_has_seen_makes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"VASTAR_SOCKET_PATH": "~/v.sock", "VASTAR_LOG_FILE": "~/log"}
    here = seen(tmp_path, environ, log_path=os.path.abspath("~/log"))
    assert [f.command for check in (check_socket_directory, check_log) for f in check(here)] == [None, None]
    assert [f.command for f in check_variables(here)] == [
        'export VASTAR_SOCKET_PATH="$HOME${VASTAR_SOCKET_PATH#"~"}"',
        'export VASTAR_LOG_FILE="$HOME${VASTAR_LOG_FILE#"~"}"',
    ]


def test_a_restart_gives_again_what_was_given_and_is_no_file_s(tmp_path: Path) -> None:
    listen = Listen(socket_mode=0o666, socket_group="app", workers=0, tcp_port=24472, tcp_host="0.0.0.0")
    started = WELL | {"listen": msgspec.to_builtins(listen)}
    old = msgspec.structs.replace(HEALTH, version="0.0.9")
    assert one(check_daemon(daemon(old, started, manner=Manner(is_detached=True, log="/l g" + DELETED)))).command == (
        "VASTAR_USE_TCP=true VASTAR_TCP_PORT=24472 vastar-runtime restart --socket-mode 0666 --socket-group app "
        "--workers auto --insecure-bind --log-file '/l g'"
    )
    # What its file and the variables here say need not be said.
    file = tmp_path / "c.toml"
    file.write_text('[listen]\nsocket_mode = "0666"\nsocket_group = "app"\nworkers = "auto"\n')
    told = started | {"config_file": str(file), "listen": msgspec.to_builtins(listen) | {"tcp_host": "127.0.0.1"}}
    environ = {"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "24472"}
    examined = examine(environ, config_path=str(file))
    assert restart(daemon(told=told, environ=environ, examined=examined)) == ("", "vastar-runtime restart")
    # Another file is named here: it is to keep its own.
    other = examine(environ | {"VASTAR_CONFIG": os.devnull})
    here = daemon(told=told, environ=environ | {"VASTAR_CONFIG": os.devnull}, examined=other)
    assert restart(here)[1] == f"vastar-runtime restart --config {file}"
    none = daemon(told=WELL, environ={"VASTAR_CONFIG": str(file)}, examined=examined)
    assert (restart(none)[1] or "").startswith("vastar-runtime restart --config /dev/null")


def test_where_no_command_restarts_it_as_it_was_it_is_said_who_can(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[[credential]]\nname = "k"\norigins = ["https://a.example"]\nenv = "KEY_OF_NOBODY"\n')
    stranger = Found(state=OnSocket.RUNNING, socket_path="/s", pid=7, uid=4321, health=HEALTH)
    cases: list[tuple[Circumstances, str]] = [
        (daemon(told=WELL, found=stranger), "uid 4321 can restart it"),
        (daemon(told=WELL, found=stranger, manner=Manner(unit="v.service")), "restart the unit that it belongs to (v."),
        (daemon(told=WELL, manner=None), "where it runs"),
        (daemon(told=WELL, manner=Manner(unit="v.service", is_detached=True, log="/x")), "restart the unit"),
        (daemon(told=WELL, manner=Manner(is_detached=True)), "by who started it"),
        (daemon(told=WELL, manner=Manner(log="/x")), "by who started it"),
        (daemon(told={}), "with the options that it was started with"),
        (daemon(told=WELL | {"environment": fingerprints({"HTTPS_PROXY": "p"})}), "HTTPS_PROXY"),
        (daemon(told=WELL, examined=examine({}, config_path=str(file))), "KEY_OF_NOBODY"),
    ]
    for here, words in cases:
        advice, command = restart(here)
        assert command is None
        assert words in advice
    assert STARTED.unit is None


def test_nothing_is_started_with_a_file_that_is_missing_or_wrong(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    gone = WELL | {"config_file": str(file)}
    for text, mistake in ((None, f"cannot read {file}"), ("[", f"{file}:1: ")):
        if text is not None:
            file.write_text(text)
        environ = {"VASTAR_CONFIG": str(file)}
        wrong = examine(environ)
        # The daemon goes by none, and this is named here; or by this, which is not what it was.
        other = one(check_configuration_in_use(daemon(told=WELL, environ=environ, examined=wrong)))
        assert other.remedy.endswith("; else correct this one, and start the daemon with this one")
        assert other.command is None
        advice, command = restart(daemon(told=gone))
        assert advice.startswith(f"vastar-runtime restart, once this is corrected: {mistake}")
        assert command is None
        none = one(check_daemon(seen(tmp_path, environ)))
        assert (none.remedy, none.command) == ("correct the configuration first; then start one", None)


def test_a_variable_that_the_configuration_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[[credential]]\nname = "k"\norigins = ["https://a.example"]\nenv = "VASTAR_OPENAI_KEY"\n'
        '[shared_limits]\nbackend = "redis://a.example"\npassword_env = "VASTAR_REDIS_PASSWORD"\n'
    )
    keys = {"VASTAR_OPENAI_KEY": "s3cr3t", "VASTAR_REDIS_PASSWORD": "s3cr3t"}
    assert one(check_variables(seen(tmp_path, keys | {"VASTAR_CONFIG": str(file)}))).state is State.OK
    file.write_text("[")
    unread = one(check_variables(seen(tmp_path, {"VASTAR_OPENAI_KEY": "s3cr3t", "VASTAR_CONFIG": str(file)})))
    assert (unread.state, unread.command) == (State.NOT_CHECKED, None)


def test_a_file_of_usage_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    here = daemon(told=WELL | {"usage_file": str(path)})
    assert one(check_usage(here)).found == f"{path} will be made when it is needed"
    path.write_bytes(b"not a database " * 100)
    damaged = one(check_usage(here))
    assert (damaged.state, damaged.command) == (State.PROBLEM, f"ls -l {path}")
    assert f"{path} is no SQLite database, or a damaged one" in damaged.found
    for application_id, version, state in (
        (7, 1, State.PROBLEM),
        (0x76617374, 2, State.PROBLEM),
        (0x76617374, 1, State.OK),
    ):
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("CREATE TABLE usage (hour)")
        connection.close()
        assert one(check_usage(here)).state is state
    assert one(check_usage(daemon(told=WELL | {"usage_file": None}))).state is State.WARNING


def test_usage_that_the_daemon_does_not_write_is_a_problem_however_well_its_file_looks(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    reason = f"the usage file {path} cannot be used: the disk is full"
    full = one(check_usage(daemon(told=WELL | {"usage_file": str(path), "usage_problem": reason})))
    assert (full.state, full.command) == (State.PROBLEM, "vastar-runtime status")
    assert full.found == f"the daemon does not write it: {reason}"
    assert one(check_usage(daemon(told=WELL | {"usage_file": str(path), "usage_problem": None}))).state is State.OK


def test_a_usage_file_that_is_damaged_inside_is_found_and_a_large_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.db"
    store = UsageStore(str(path), unix_clock=lambda: 1.8e9)
    store.add({UsageKey(500_000, f"tenant {number}", "o", "m"): UsageCounts() for number in range(2000)})
    here = daemon(told=WELL | {"usage_file": str(path)})
    assert one(check_usage(here)).state is State.OK  # beside the daemon that has it open
    store.close()
    assert one(check_usage(here)).state is State.OK
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\xff" * 4096
    path.write_bytes(content)
    damaged = one(check_usage(here))
    assert (damaged.state, damaged.command) == (State.PROBLEM, f"ls -l {path}")
    assert f"the usage file {path} cannot be used: it is damaged; move it away" in damaged.found
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["usage.db"]
    with monkeypatch.context() as patched:
        patched.setattr(usage_damage, "LOOK_S", -1.0)
        patched.setattr(usage_damage, "_STEPS_PER_LOOK", 1)
        assert one(check_usage(here)).state is State.OK
    monkeypatch.setattr(usage_damage, "MAX_LOOKED_THROUGH_BYTES", 4096)
    assert one(check_usage(here)).state is State.OK


def test_a_key_that_the_daemon_reads_only_as_anybody_is_not_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vastar_runtime.cli.doctor_checks.credential_files.is_within_reach", lambda _path: True)
    key, file = tmp_path / "key", tmp_path / "c.toml"
    key.write_text("s3cr3t")
    key.chmod(0o644)
    file.write_text(f'[[credential]]\nname = "k"\norigins = ["https://a.example"]\nfile = "{key}"\n')
    examined = examine({}, config_path=str(file))
    mine = one(check_credential_sources(daemon(examined=examined)))
    assert mine.command == f"chmod o-rw {key}"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = Found(state=OnSocket.RUNNING, socket_path="/s", pid=2**22 + 1, uid=4321, health=HEALTH)
    assert one(check_credential_sources(daemon(examined=examined, found=found))).command is None


def test_one_authority_more_does_not_take_the_place_of_all(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    *_, warned = check_trust_store_here(seen(tmp_path, {"NODE_EXTRA_CA_CERTS": str(ca)}))
    assert (warned.state, warned.command) == (State.WARNING, None)


def test_what_a_doctor_began_that_is_killed_is_ended_and_removed(tmp_path: Path) -> None:
    directory = tmp_path / "workshop"
    directory.mkdir()
    (directory / "log").write_text("x")
    with (
        subprocess.Popen(["sleep", "60"]) as child,
        subprocess.Popen([sys.executable, "-I", "-S", keeper.__file__, directory], stdin=subprocess.PIPE) as keeping,
    ):
        keeping.communicate(b"%d\nx\n" % child.pid, timeout=20)
        assert child.wait(20) == -15
    assert keeping.returncode == 0
    assert not directory.exists()


def test_a_report_that_nobody_can_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from vastar_runtime.cli import doctor as command
    from vastar_runtime.cli.doctor_checks.finding import problem
    from vastar_runtime.cli.doctor_checks.plan import Report

    monkeypatch.setattr(sys, "stdout", None)
    assert command._print([Report("Family", [problem("a", "b")])]) == 1
