"""The doctor on a machine that is well, and on ones with faults; what it says to type makes them go."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from command_place import COMMAND, Place, place, processes_in_session, read_until

from vastar_runtime.cli.doctor_checks.circumstances import Circumstances, look
from vastar_runtime.cli.doctor_checks.configuration import check_configuration_in_use
from vastar_runtime.cli.doctor_checks.daemon_environment import check_daemon_environment
from vastar_runtime.cli.doctor_checks.finding import Finding, State
from vastar_runtime.cli.doctor_checks.kept_files import check_log, check_open_files
from vastar_runtime.cli.doctor_checks.other_daemons import other_daemons, running
from vastar_runtime.cli.doctor_checks.plan import Check
from vastar_runtime.cli.doctor_checks.request import Way, requests
from vastar_runtime.cli.doctor_checks.socket_place import check_socket

TIMEOUT_S = 50


@pytest.fixture
def runtime(authority: trustme.CA) -> Iterator[Place]:
    with place() as opened, authority.cert_pem.tempfile() as trusted:
        opened.environ |= {"SSL_CERT_FILE": trusted, "TMPDIR": str(opened.directory)}
        program = opened.directory / "bin" / "vastar-runtime"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        opened.environ["PATH"] = f"{program.parent}:{opened.environ['PATH']}"
        yield opened


def typed(runtime: Place, *commands: str, **environ: str) -> str:
    """What a shell says to these, one after the other."""
    done = subprocess.run(
        ["sh", "-c", "\n".join(commands)],
        capture_output=True,
        text=True,
        env=runtime.environ | environ,
        cwd=runtime.directory,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.stdout + done.stderr


def said(output: str) -> dict[str, dict[str, Any]]:
    """Each check of a report in JSON, by its name."""
    return {check["name"]: check for check in json.loads(output)["checks"]}


def looked(runtime: Place, **environ: str) -> Circumstances:
    return look(
        runtime.environ | environ,
        config_path=None,
        socket_path=None,
        log_path=str(runtime.log),
        tenant_id="default",
    )


def found(runtime: Place, check: Check, **environ: str) -> Finding:
    """The one thing that a check finds."""
    [finding] = check(looked(runtime, **environ))
    return finding


def asked(runtime: Place, base_url: str, **environ: str) -> Finding:
    """What comes of a request through the daemon; of two, where the first comes through."""
    here = looked(runtime, **environ)
    assert here.socket is not None
    return next(iter(requests(Way(here.socket, "the daemon", is_running=True), base_url, here)))


def test_a_machine_that_is_well_has_no_problem_and_nothing_is_left(runtime: Place) -> None:
    daemon = runtime.begin_daemon()
    before = sorted(runtime.directory.iterdir())
    doctor = runtime.begin("doctor")
    out, err = doctor.communicate(timeout=TIMEOUT_S)
    assert (doctor.returncode, err) == (0, "")
    assert "   problem " not in out
    assert f"PID {daemon.pid}, version " in out
    assert "whole request: a chat completion of " in out
    assert f" came through the daemon (PID {daemon.pid}) in " in out
    assert "streamed request: the first of " in out
    assert out.splitlines()[-1].startswith("0 problems, ")
    assert "\x1b" not in out
    assert processes_in_session(doctor.pid) == []
    assert sorted(runtime.directory.iterdir()) == before


def test_ten_faults_at_once_and_what_it_says_to_type_makes_them_go(runtime: Place) -> None:
    place = runtime.directory
    sockets, key, config = place / "open to all", place / "key", place / "runtime.toml"
    place.chmod(0o755)
    sockets.mkdir()
    sockets.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(sockets / "s"))
    key.write_text("s3cr3t")
    key.chmod(0o644)
    config.write_text(
        f'[[credential]]\nname = "key"\norigins = ["https://api.example.com"]\nfile = "{key}"\n'
        f'[usage]\nfile = "{place}/usage.db"\n'
    )
    config.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        no_proxy = f"127.0.0.1:{closed.getsockname()[1]}"
    faults = {
        "VASTAR_SOCKET_PATH": str(sockets / "s"),
        "VASTAR_CONFIG": str(config),
        "VASTAR_TIMOUT": "20",
        "VASTAR_WORKERS": "many",
        "VASTAR_LOG_FILE": str(place / "logs" / "log"),
        "SSL_CERT_FILE": str(place / "gone.pem"),
        "HTTP_PROXY": "socks5://127.0.0.1:1",
        "https_proxy": no_proxy,
        "HTTPS_PROXY": "http://127.0.0.1:2",
    }
    report = said(typed(runtime, "vastar-runtime doctor --json --without-request", **faults))
    remedies = {
        "variable VASTAR_TIMOUT": ("problem", 'export VASTAR_TIMEOUT="$VASTAR_TIMOUT"; unset VASTAR_TIMOUT'),
        "variable VASTAR_WORKERS": ("problem", "unset VASTAR_WORKERS"),
        "configuration file's mode": ("problem", f"chmod o-w {config}"),
        "credential key": ("warning", f"chmod o-rw {key}"),
        "socket's directory": ("problem", f"chmod +t '{sockets}'"),
        "log": ("problem", f"mkdir -p {place}/logs"),
        "TLS trust store": ("problem", "unset SSL_CERT_FILE"),
        "variable HTTP_PROXY": ("problem", "unset HTTP_PROXY"),
        "variable https_proxy": ("warning", 'export HTTPS_PROXY="$https_proxy"'),
        "proxies": ("warning", 'export NO_PROXY="${NO_PROXY:+$NO_PROXY,}localhost,127.0.0.1"'),
        f"proxy {no_proxy}": ("problem", "unset https_proxy"),
        "socket": ("problem", "vastar-runtime start"),
    }
    assert {name: (report[name]["state"], report[name]["command"]) for name in remedies} == remedies
    assert "s3cr3t" not in str(report)
    commands = [command for _, command in remedies.values()]
    commands.insert(-1, "unset HTTPS_PROXY")  # now that both spellings say the same, it is named for both
    # The store of the test's authority, in place of the system's, which may have none.
    commands += [f"export SSL_CERT_FILE={runtime.environ['SSL_CERT_FILE']}", "vastar-runtime doctor --json"]
    begun, _, after = typed(runtime, *commands, **faults).partition("\n{")
    assert begun.startswith("Started the daemon\n")
    report = said("{" + after)
    assert {name for name, check in report.items() if check["state"] == "problem"} == set()
    assert report["socket"]["found"] == f"a daemon answers on {sockets}/s"
    assert report["whole request"]["state"] == "ok"


def test_a_daemon_in_trouble_story_by_story(runtime: Place) -> None:
    config = runtime.directory / "runtime.toml"
    config.write_text("")
    runtime.environ["VASTAR_CONFIG"] = str(config)
    simulator = runtime.begin("simulator", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"127.0.0.1:{closed.getsockname()[1]}"
    # Started where a proxy was set, which is not set here: no restart from here would leave that as it is.
    assert "Started" in typed(runtime, "vastar-runtime start --socket-mode 0660", HTTP_PROXY=proxy)
    base_url = read_until(simulator.stdout, "listening").split()[3]
    assert asked(runtime, base_url).command is None
    through_proxy = asked(runtime, base_url, HTTP_PROXY=proxy)
    assert through_proxy.state is State.PROBLEM
    assert f"cannot connect to the proxy {proxy}" in through_proxy.found
    runtime.log.unlink()
    log = found(runtime, check_log, HTTP_PROXY=proxy)
    assert (log.state, log.command) == (State.PROBLEM, "vastar-runtime restart --socket-mode 0660")
    assert "was deleted while the daemon" in log.found
    assert (through_proxy.command or "").endswith(log.command)
    assert "Started" in typed(runtime, through_proxy.command or "", HTTP_PROXY=proxy)
    assert asked(runtime, base_url).state is State.OK
    assert found(runtime, check_log).state is State.OK
    assert stat.S_IMODE(runtime.socket.stat().st_mode) == 0o660

    config.write_text('[policy.egress]\nprivate = "deny"\n')
    changed = found(runtime, check_configuration_in_use)
    assert (changed.state, changed.command) == (State.WARNING, "vastar-runtime reload")
    assert "Reloaded" in typed(runtime, changed.command or "")
    assert found(runtime, check_configuration_in_use).state is State.OK
    denied = asked(runtime, base_url)
    assert denied.state is State.NOT_CHECKED
    assert "do not let it: egress denies http://127.0.0.1:" in denied.found
    assert "egress denies" in typed(runtime, denied.command or "")

    pid = runtime.probe().pid
    assert pid is not None
    elsewhere = looked(runtime, VASTAR_SOCKET_PATH=str(runtime.directory / "other.sock"))
    # Of all that may run on this machine.
    [other] = other_daemons(elsewhere, list(running([str(pid)], elsewhere.socket)))
    assert (other.state, other.command) == (State.WARNING, f"export VASTAR_SOCKET_PATH={runtime.socket}")
    assert f" on {runtime.socket}" in other.found

    os.kill(pid, signal.SIGSTOP)
    stopped = found(runtime, check_socket)
    assert (stopped.state, stopped.command) == (State.PROBLEM, f"kill -CONT {pid}")
    typed(runtime, stopped.command or "")
    assert found(runtime, check_socket).state is State.OK
    os.kill(pid, signal.SIGKILL)


@pytest.mark.unmeasured
def test_what_this_user_may_not_use_and_an_environment_that_differs(runtime: Place) -> None:
    daemon = runtime.begin("run", HTTPS_PROXY="http://127.0.0.1:1")
    read_until(daemon.stderr, "started")
    differs = found(runtime, check_daemon_environment)
    assert (differs.state, differs.command) == (State.WARNING, None)  # it runs in a foreground that is not here
    assert "started again by who started it" in differs.remedy
    assert f"the daemon (PID {daemon.pid}) was started with other values of 'HTTPS_PROXY' than" in differs.found
    assert f"the daemon (PID {daemon.pid}) has " in found(runtime, check_open_files).found

    # As another user when this is root, for whom no mode counts; modules are loaded before.
    script = (
        "import os, sys; from vastar_runtime.cli import main, doctor\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv[0] = 'vastar-runtime'; main()"
    )
    runtime.directory.chmod(0o755)
    runtime.socket.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor", "--without-request", "--json"],
        capture_output=True,
        text=True,
        env=runtime.environ,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    forbidden = said(done.stdout)["socket"]
    assert forbidden["state"] == "problem"
    assert f"{runtime.socket} belongs to " in forbidden["found"]
    assert "--socket-mode 0660 --socket-group GROUP" in forbidden["remedy"]


@pytest.mark.unmeasured
def test_a_doctor_that_is_interrupted_leaves_nothing(runtime: Place) -> None:
    before = sorted(runtime.directory.iterdir())
    doctor = runtime.begin("doctor")
    read_until(doctor.stdout, "TLS")
    doctor.terminate()
    _, err = doctor.communicate(timeout=TIMEOUT_S)
    assert (doctor.returncode, err) == (128 + signal.SIGTERM, "")
    assert processes_in_session(doctor.pid) == []
    assert sorted(runtime.directory.iterdir()) == before
