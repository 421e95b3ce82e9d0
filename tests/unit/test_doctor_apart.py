"""What the doctor says to who uses a daemon without having a say in it, and of daemons that are not what they say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doctor_circumstances import HEALTH, INVALID, WELL, answering, daemon, one, seen, told

from vastar_runtime.cli.doctor_checks import other_daemons
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances
from vastar_runtime.cli.doctor_checks.configuration import (
    check_configuration,
    check_configuration_access,
    check_configuration_in_use,
)
from vastar_runtime.cli.doctor_checks.credential_sources import check_credential_sources
from vastar_runtime.cli.doctor_checks.daemon import check_daemon
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.plan import FAMILIES
from vastar_runtime.cli.doctor_checks.processes import groups_of_process, unit_of
from vastar_runtime.cli.doctor_checks.proxies import check_proxies
from vastar_runtime.cli.doctor_checks.request import Way, _way
from vastar_runtime.cli.doctor_checks.socket_place import check_socket, check_socket_directory
from vastar_runtime.cli.doctor_checks.tls import check_trust_store_here
from vastar_runtime.cli.doctor_checks.workshop import Workshop
from vastar_runtime.cli.probe import Found
from vastar_runtime.cli.probe import State as OnSocket
from vastar_runtime.config import examine
from vastar_runtime.config.loading import Mistake
from vastar_runtime.daemon.environment import fingerprints

FILE = '[listen]\nsocket_mode = "0660"\n[[credential]]\nname = "k"\norigins = ["https://a.example"]\nfile = "/none/k"\n'


def findings(here: Circumstances) -> list[Finding]:
    """Of all checks, but for those of the installation itself."""
    return [finding for family in FAMILIES[1:] for check in family.checks for finding in check(here)]


def test_a_client_of_roots_daemon_is_told_of_nothing_that_is_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runtime.toml"
    file.write_text(FILE)
    environ = {
        "VASTAR_CONFIG": str(file),
        "VASTAR_SOCKET_PATH": str(tmp_path),
        "VASTAR_LOG_FILE": "/none/log",
        "HTTPS_PROXY": "socks5://127.0.0.1:9",
        "SSL_CERT_FILE": "/none/ca.pem",
    }
    examined = examine(environ)
    forbidden = examined._replace(mistakes=[Mistake((), f"cannot read {file}: Permission denied", True)])
    found = Found(state=OnSocket.RUNNING, socket_path=str(tmp_path), pid=2**22 + 1, uid=0, health=HEALTH)
    client = daemon(
        environ=environ,
        log_path="/none/log",
        socket=str(tmp_path),
        found=found,
        examined=forbidden,
        statistics_problem="uid 1001 may not ask the runtime about itself",
        manner=None,
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    said = findings(client)
    assert [f.found for f in said if f.state in (State.PROBLEM, State.WARNING)] == []
    assert one(check_configuration(client)).found.endswith("may not be read by this user; the daemon is another user's")
    # With a file that may be read, and names what may not be seen.
    said = findings(msgspec.structs.replace(client, examined=examined))
    assert [f.found for f in said if f.state in (State.PROBLEM, State.WARNING)] == []
    assert one(check_credential_sources(msgspec.structs.replace(client, examined=examined))).state is State.NOT_CHECKED


def test_a_client_that_uses_tcp_is_judged_by_that(tmp_path: Path) -> None:
    with answering(None, HEALTH) as port, Workshop() as workshop:
        here = seen(
            tmp_path, {"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": str(port), "HTTP_PROXY": "127.0.0.1:9", "HOME": ""}
        )
        said = findings(here)
        assert [f.found for f in said if f.state in (State.PROBLEM, State.WARNING)] == []
        assert told(one(check_daemon(here)))[1].startswith(f"at 127.0.0.1:{port}, version ")
        assert _way(here, workshop, {}) == Way(
            "/tmp/vastar-connector-runtime.sock",
            f"the daemon at 127.0.0.1:{port}",
            is_running=True,
            tcp=("127.0.0.1", port),
        )
        # A flag goes over the variable, as for a request.
        assert seen(tmp_path, here.environ, config_path=os.devnull).tcp is None
    nobody = seen(tmp_path, here.environ | {"VASTAR_TCP_HOST": "no host.invalid"})
    [problem] = [f for f in findings(nobody) if f.name == "TCP port"]
    assert (problem.state, problem.command) == (State.PROBLEM, "unset VASTAR_USE_TCP")
    assert "no host.invalid" in problem.found


def test_a_daemon_in_another_container_goes_by_what_is_there() -> None:
    its = {
        "config_file": "/in/there.toml",
        "usage_file": "/state/usage.db",
        "environment": fingerprints({"NO_PROXY": "x"}),
    }
    found = Found(state=OnSocket.RUNNING, socket_path="/tmp/s", pid=None, uid=os.geteuid(), health=HEALTH)
    sidecar = daemon(told=WELL | its, found=found, manner=None, socket="/tmp/s")
    checks: list[Callable[[Circumstances], Any]] = [
        check_configuration_in_use,
        check_proxies,
        check_trust_store_here,
    ]
    assert {one(check(sidecar)).state for check in checks} == {State.NOT_CHECKED}
    assert [f.found for f in findings(sidecar) if f.state is State.PROBLEM] == []


def test_a_title_makes_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, root, path = str(os.getpid()), "1", tmp_path / "s"
    monkeypatch.setattr(other_daemons, "describe", lambda _pid: f"vastar-connector-runtime --socket {path}")

    def listed(*names: str) -> list[str]:
        return [daemon.socket for daemon in other_daemons.running(names)]

    assert listed(mine) == []  # nobody listens
    with answering(path, INVALID):
        assert listed(mine) == []
    path.unlink()
    with answering(path, HEALTH):
        assert listed(mine) == [str(path)]
        assert listed(root) == []  # another process answers than the one with the title
        real = other_daemons.probe
        strangers = lambda *args: msgspec.structs.replace(real(*args), uid=4321)  # noqa: E731
        monkeypatch.setattr(other_daemons, "probe", strangers)
        assert listed(mine) == []


def test_whose_proxies_and_certificates_these_are(tmp_path: Path) -> None:
    clean = {"environ": {"HOME": str(tmp_path)}}
    assert one(check_proxies(daemon(told=WELL, **clean))).found == "none: the daemon connects directly"
    proxied = WELL | {"environment": fingerprints({"HTTPS_PROXY": "http://127.0.0.1:9"})}
    assert one(check_proxies(daemon(told=proxied, **clean))).found == (
        "none: a daemon that is started from here connects directly"
    )
    store = next(iter(check_trust_store_here(daemon(told=proxied, **clean))))
    assert "for a daemon that is started from here" in store.found
    assert one(check_proxies(daemon(told={}, **clean))).found.startswith("none: a daemon that is started from here")
    assert one(check_proxies(seen(tmp_path))).found.startswith("none: a daemon that is started from here")


def test_the_groups_of_a_daemon_are_those_that_its_process_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert groups_of_process(os.getpid()) == {os.getegid(), *os.getgroups()}
    assert groups_of_process(2**22 + 1) is None
    path = tmp_path / "runtime.toml"
    path.write_text("")
    path.chmod(0o640)
    found = Found(state=OnSocket.RUNNING, socket_path="/s", pid=7, uid=4321, health=HEALTH)
    here = daemon(found=found, environ={"VASTAR_CONFIG": str(path)}, examined=examine({"VASTAR_CONFIG": str(path)}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for groups, states in (
        ({path.stat().st_gid}, {State.OK, State.WARNING}),  # whose file it is depends on who runs this
        ({4322}, {State.PROBLEM}),
        (None, {State.NOT_CHECKED}),
    ):
        monkeypatch.setattr(
            "vastar_runtime.cli.doctor_checks.configuration.groups_of_process", lambda _pid, groups=groups: groups
        )
        assert one(check_configuration_access(here)).state in states


def test_a_socket_that_this_user_may_not_use_says_nothing_about_a_daemon_of_its_own() -> None:
    for state in (OnSocket.FORBIDDEN, OnSocket.SILENT, OnSocket.CLOSED, OnSocket.LEGACY):
        here = daemon(found=Found(state=state, socket_path="/proc/s", pid=7, uid=0), socket="/proc/s")
        assert told(one(check_daemon(here))) == (State.NOT_CHECKED, "see the socket")
        assert one(check_socket_directory(here)).state is State.OK
        commands = [f.command or "" for f in check_socket(here)]
        assert not any("start" in command for command in commands)


def test_the_unit_of_a_process() -> None:
    assert unit_of("0::/system.slice/vastar-runtime.service\n") == "vastar-runtime.service"
    assert unit_of("4:memory:/a.service\n1:name=systemd:/system.slice/b.service\n") == "b.service"
    assert unit_of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n") is None
    assert unit_of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/v.service\n") == "v.service"
    assert unit_of("\n:\n") is None
