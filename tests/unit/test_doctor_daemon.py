"""What the doctor says of the socket, and of the daemon behind it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doctor_circumstances import HEALTH, INVALID, STARTED, WELL, answering, daemon, one

from vastar_runtime import __version__
from vastar_runtime.cli.doctor_checks import circumstances, over_tcp, restarting
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances, look
from vastar_runtime.cli.doctor_checks.configuration import check_configuration_in_use
from vastar_runtime.cli.doctor_checks.daemon import check_daemon, check_daemon_statistics
from vastar_runtime.cli.doctor_checks.daemon_environment import check_daemon_environment
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.socket_access import check_socket_access
from vastar_runtime.cli.doctor_checks.socket_place import check_socket, check_socket_directory, check_socket_path
from vastar_runtime.cli.doctor_checks.tcp import check_tcp
from vastar_runtime.config.permissions import user_name
from vastar_runtime.daemon.environment import fingerprints


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as path:
        yield Path(path)


def seen(path: Path | str, **environ: str) -> Circumstances:
    here = {"VASTAR_CONFIG": os.devnull, "VASTAR_SOCKET_PATH": str(path)}
    return look(here | environ, config_path=None, socket_path=None, log_path="/x", tenant_id="default")


def told(finding: Finding) -> tuple[State, str, str | None]:
    return finding.state, finding.found, finding.command


# --- the socket's place ---


def test_a_path_that_is_too_long_is_told_before_anything_is_bound(directory: Path) -> None:
    path = directory / ("x" * 120)
    state, found, command = told(one(check_socket_directory(seen(path))))
    assert (state, command) == (State.PROBLEM, "unset VASTAR_SOCKET_PATH")
    assert "the system allows 107 for a socket" in found


def test_a_path_that_only_the_configuration_file_has_is_not_the_clients(directory: Path) -> None:
    file = directory / "c.toml"
    file.write_text(f'[listen]\nsocket = "{directory}/s"\n')
    finding = one(check_socket_path(seen("", VASTAR_CONFIG=str(file))))
    assert (finding.state, finding.command) == (State.WARNING, f"export VASTAR_SOCKET_PATH={directory}/s")
    assert list(check_socket_path(seen(directory / "s", VASTAR_CONFIG=str(file)))) == []
    operators = msgspec.structs.replace(seen("", VASTAR_CONFIG=str(file)), found=daemon().found)
    assert one(check_socket_path(operators)).state is State.OK


def test_a_directory_that_is_missing_or_open_to_all(directory: Path) -> None:
    missing = one(check_socket_directory(seen(directory / "a b" / "s")))
    assert told(missing) == (
        State.PROBLEM,
        f"{directory}/a b does not exist",
        f"mkdir -p '{directory}/a b'",
    )
    directory.chmod(0o777)
    state, _, command = told(one(check_socket_directory(seen(directory / "s"))))
    assert (state, command) == (State.PROBLEM, f"chmod +t {directory}")
    directory.chmod(0o1777)
    assert one(check_socket_directory(seen(directory / "s"))).state is State.OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_this_user_may_not_write_or_search(directory: Path) -> None:
    directory.chmod(0o500)
    state, _, command = told(one(check_socket_directory(seen(directory / "s"))))
    assert (state, command) == (State.PROBLEM, f"chmod u+w {directory}")
    directory.chmod(0o600)
    state, _, command = told(one(check_socket_directory(seen(directory / "s"))))
    assert (state, command) == (State.PROBLEM, f"chmod u+x {directory}")
    directory.chmod(0o700)


def test_what_lies_there_and_is_no_daemon(directory: Path) -> None:
    path = directory / "s"
    assert told(one(check_socket(seen(path)))) == (State.OK, f"nothing lies at {path} yet", None)
    path.write_text("x")
    assert told(one(check_socket(seen(path)))) == (
        State.PROBLEM,
        f"{path} is a file of {user_name(os.geteuid())}, no socket: no daemon starts there",
        "unset VASTAR_SOCKET_PATH",
    )
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    state, found, command = told(one(check_socket(seen(path))))
    assert (state, command) == (State.PROBLEM, "vastar-runtime start")
    assert found.startswith(f"{path} is there, and nobody listens: ")
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(path))
        assert one(check_socket(seen(path))).found == f"cannot connect to {path}: Protocol wrong type for socket"


def test_who_answers_in_the_daemons_place(directory: Path) -> None:
    path = directory / "s"
    with answering(path, INVALID):
        state, found, command = told(one(check_socket(seen(path))))
    assert (state, command) == (State.PROBLEM, f"kill {os.getpid()}")
    assert found.startswith(f"the existing runtime (PID {os.getpid()}) answers on {path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind(str(path))
        listening.listen(0)
        waiting.connect(str(path))
        assert one(check_socket(seen(path))).found == (
            f"a process that cannot be seen from here holds {path}: its queue of new connections is full"
        )


def test_a_group_that_the_mode_keeps_out_and_users_that_access_means(directory: Path) -> None:
    path, file = directory / "s", directory / "c.toml"
    file.write_text('[listen]\nsocket_group = "0"\n')
    state, found, _ = told(one(check_socket_access(seen(path, VASTAR_CONFIG=str(file)))))
    assert (state, found) == (
        State.PROBLEM,
        "listen.socket_group is '0', and listen.socket_mode 0600 lets no group in",
    )
    file.write_text('[listen]\nsocket_mode = "0660"\nsocket_group = "no-such-group"\n')
    assert one(check_socket_access(seen(path, VASTAR_CONFIG=str(file)))).found == (
        f"{file}:3: listen.socket_group: there is no group 'no-such-group' on this machine: no daemon starts with it"
    )
    file.write_text("[[access]]\nusers = [54321]\ntenants = ['web']\n[[access]]\ngroups = [54322]\ntenants = ['web']\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        known = seen(path, VASTAR_CONFIG=str(file))
        running = msgspec.structs.replace(known, found=daemon().found)
        state, found, _ = told(one(check_socket_access(running)))
        assert state is State.PROBLEM
        assert "[[access]] allows uid 54321, group 54322, and the socket does not let them in" in found
        path.chmod(0o660)  # as the database has it, they have not its group, and their units may give it to them
        assert one(check_socket_access(running)).state is State.NOT_CHECKED
        path.chmod(0o666)
        assert f"uid 54321 (who may not search {directory})" in one(check_socket_access(running)).found
        directory.chmod(0o755)
        assert one(check_socket_access(running)).state is State.OK
        everyone = msgspec.structs.replace(running, examined=None)
        assert one(check_socket_access(everyone)).state is State.WARNING


def test_a_tcp_port_that_another_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_tcp, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finding = one(check_tcp(seen(Path("/tmp/v-nobody/s"), VASTAR_USE_TCP="true", VASTAR_TCP_PORT=port)))
    assert (finding.state, finding.command) == (State.PROBLEM, f"ss -ltnp sport = :{port}")
    free = one(check_tcp(seen(Path("/tmp/v-nobody/s"), VASTAR_USE_TCP="true", VASTAR_TCP_PORT=port)))
    assert told(free) == (State.OK, f"127.0.0.1:{port} is free", None)


# --- the daemon's own words ---


def test_the_daemons_version_and_how_it_is() -> None:
    well = one(check_daemon(daemon()))
    assert told(well) == (State.OK, f"PID 7, version {__version__}, up for 1 day, 1:01:01, 0 requests in flight", None)
    old = one(check_daemon(daemon(msgspec.structs.replace(HEALTH, version="0.0.9\x1b[2J"), WELL)))
    assert (old.state, old.command) == (State.WARNING, "vastar-runtime restart")
    assert "version 0.0.9\N{REPLACEMENT CHARACTER}[2J" in old.found
    assert one(check_daemon(daemon(msgspec.structs.replace(HEALTH, draining=True)))).command == "vastar-runtime status"
    assert one(check_daemon(daemon(msgspec.structs.replace(HEALTH, healthy=False)))).state is State.PROBLEM
    nobody = seen(Path("/tmp/v-nobody/s"))
    assert told(one(check_daemon(nobody)))[::2] == (State.WARNING, "vastar-runtime start")


def test_where_a_unit_is_to_run_it_nobody_is_told_to_start_it_by_hand(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "UNIT_DIRECTORIES", (str(directory / "none"), str(directory)))
    (directory / "vastar-runtime.service").touch()
    of_unit = one(check_daemon(seen(Path("/tmp/v-nobody/s"))))
    assert told(of_unit)[::2] == (State.WARNING, "systemctl status vastar-runtime")
    assert "a unit of systemd is to run it" in of_unit.remedy
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(directory / "s"))
    assert one(check_socket(seen(directory / "s"))).command == "systemctl status vastar-runtime"


def test_workers_circuits_credentials_and_redis_each_have_their_line() -> None:
    assert [f.state for f in check_daemon_statistics(daemon(told=WELL))] == [State.OK, State.OK]
    circuit = {
        "state": "open",
        "origin": "https://api.example.com",
        "tenant_id": "web",
        "failures": 5,
        "last_reason": "status 503",
        "next_probe_in_ms": 4000,
    }
    ill = WELL | {
        "workers": [{"pid": 7, "answers": True}, {"pid": 8, "answers": False}],
        "policies": WELL["policies"] | {"circuit_breaker": {"circuits": [circuit], "not_closed": 1}},
        "credentials": [
            {"name": "a", "source": "env", "is_usable": False, "problem": "KEY is not set"},
            {"name": "b", "source": "file", "is_usable": True, "problem": "/k is missing"},
            {"name": "c", "source": "command", "is_usable": False, "problem": None},
        ],
        "shared_limits": {"address": "redis.example:6379", "reason": "Connection refused", "fail": "closed"},
    }
    findings = list(check_daemon_statistics(daemon(told=ill)))
    assert [(f.name, f.state) for f in findings] == [
        ("workers", State.PROBLEM),
        ("circuit", State.WARNING),
        ("credential a in the daemon", State.PROBLEM),
        ("credential b in the daemon", State.WARNING),
        ("credential c in the daemon", State.WARNING),
        ("shared limits", State.PROBLEM),
    ]
    assert findings[0].command == "kill -9 8"
    assert "circuit open for 'https://api.example.com', tenant 'web'" in findings[1].found
    assert findings[2].found == "it cannot be used: KEY is not set"
    assert "what has such a limit is refused meanwhile" in findings[5].found
    fewer = WELL | {"workers": WELL["workers"][:1]}
    assert next(iter(check_daemon_statistics(daemon(told=fewer)))).found.startswith("1 of 2 serve")


@pytest.mark.parametrize("told_instead", [{}, {"workers": 1}, WELL | {"credentials": [1]}, WELL | {"shared_limits": 1}])
def test_a_daemon_of_another_version_is_not_judged(told_instead: dict[str, Any]) -> None:
    assert one(check_daemon_statistics(daemon(told=told_instead))).state is State.NOT_CHECKED


def test_a_daemon_whose_main_process_hangs_behind_its_workers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has said that it is well; the question for the main process stays without an answer."""
    monkeypatch.setattr(circumstances, "ANSWER_TIMEOUT_S", 0.01)
    monkeypatch.setattr(circumstances, "probe", lambda *_: daemon().found)
    monkeypatch.setattr(circumstances, "manner_of", lambda _: STARTED)
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        finding = one(check_daemon_statistics(seen(path)))
    assert f"the daemon on {path} did not answer within 0.01 s" in finding.found
    assert (finding.state, finding.command) == (State.PROBLEM, None)  # with which options, it does not tell
    assert "vastar-runtime restart, with the options that it was started with" in finding.remedy
    refused = "the daemon on /s refuses: uid 1 may not ask the runtime about itself"
    finding = one(check_daemon_statistics(daemon(statistics_problem=refused)))
    assert told(finding) == (State.NOT_CHECKED, refused, None)


def test_a_file_that_changed_or_is_another_than_the_daemons(directory: Path) -> None:
    file = directory / "c.toml"
    file.write_text("")
    here = msgspec.structs.replace(seen(Path("/s"), VASTAR_CONFIG=str(file)), found=daemon().found, manner=STARTED)
    read_later = WELL | {"config_file": str(file), "configured_at_unix_s": file.stat().st_mtime + 1}
    assert one(check_configuration_in_use(msgspec.structs.replace(here, statistics=read_later))).state is State.OK
    read_before = read_later | {"configured_at_unix_s": file.stat().st_mtime - 1}
    changed = one(check_configuration_in_use(msgspec.structs.replace(here, statistics=read_before)))
    assert told(changed) == (
        State.WARNING,
        f"{file} has changed since the daemon read it",
        "vastar-runtime reload",
    )
    mistake = f"{file}:1: unknown key"
    refused = msgspec.structs.replace(here, statistics=read_before | {"reload_refused": mistake})
    assert one(check_configuration_in_use(refused)).command == "vastar-runtime reload"  # it is correct by now
    file.write_text("x = 1")
    examined = seen(Path("/s"), VASTAR_CONFIG=str(file)).examined
    finding = one(check_configuration_in_use(msgspec.structs.replace(refused, examined=examined)))
    assert told(finding) == (
        State.WARNING,
        f"the daemon goes by {file} as it was before: the last reload was refused: {mistake}",
        "vastar-runtime config check",
    )
    file.write_text("")
    other = one(check_configuration_in_use(msgspec.structs.replace(here, statistics=WELL)))
    assert (other.state, other.command) == (State.WARNING, f"vastar-runtime restart --config {file}")
    file.unlink()
    gone = one(check_configuration_in_use(msgspec.structs.replace(here, statistics=read_later)))
    assert gone.found == f"{file} is gone since the daemon read it"


def test_the_daemons_variables_are_compared_and_no_value_is_told() -> None:
    its = fingerprints({"HTTP_PROXY": "http://u:s3cr3t@p", "SSL_CERT_FILE": "/ca.pem", "HOME": "/x"})
    assert its.keys() == {"HTTP_PROXY", "SSL_CERT_FILE"}
    assert "s3cr3t" not in str(its)

    def compared(**environ: str) -> Finding:
        return one(check_daemon_environment(daemon(told=WELL | {"environment": its}, environ=environ)))

    differs = compared(https_proxy="p", SSL_CERT_FILE="/ca.pem")
    assert (differs.state, differs.command) == (State.WARNING, "vastar-runtime restart")
    assert "'HTTPS_PROXY', 'HTTP_PROXY' than" in differs.found
    assert compared(http_proxy="http://u:s3cr3t@p", SSL_CERT_FILE="/ca.pem").state is State.OK
    older = one(check_daemon_environment(daemon(told={"config_file": None})))
    assert (older.state, older.found) == (State.NOT_CHECKED, "the daemon does not tell it")
