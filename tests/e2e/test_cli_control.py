"""start, stop, restart and status, with real processes on private sockets."""

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_place import HeldUpstream, Place, place, read_until, runtimes_under

from connector_sdk import GET, HTTPResponse, RuntimeClient, RuntimeConfig
from vastar_runtime import __version__
from vastar_runtime.cli.probe import State


@pytest.fixture
def runtime() -> Iterator[Place]:
    with place() as opened:
        yield opened


@pytest.fixture
def upstream() -> Iterator[HeldUpstream]:
    held = HeldUpstream()
    yield held
    held.close()


def test_a_day_of_a_daemon(runtime: Place) -> None:
    """Not there, started, asked, started again, restarted, stopped, stopped again."""
    absent = runtime.run("status")
    assert (absent.returncode, absent.stdout) == (3, f"Not running: nobody listens on {runtime.socket}\n")

    started = runtime.run("start")
    assert (started.returncode, started.stderr) == (0, "")
    [pid] = runtimes_under(runtime.directory)  # its title is what pgrep -f vastar-connector-runtime looks for
    place_lines = f"   PID: {pid}\n   Socket: {runtime.socket}\n"
    assert started.stdout == f"Started the daemon\n{place_lines}   Log: {runtime.log}\n"
    assert os.getsid(pid) == pid  # it outlives the terminal
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert stat.S_IMODE(runtime.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime.socket.stat().st_mode) == 0o600

    asked = runtime.run("status")
    assert asked.returncode == 0
    assert asked.stdout.startswith(f"Running\n{place_lines}   Version: {__version__}\n   Uptime: ")
    assert asked.stdout.endswith("   Active requests: 0\n   Configuration: built-in defaults\n   Held back: nothing\n")

    again = runtime.run("start")
    assert (again.returncode, again.stdout) == (0, f"Already running\n{place_lines}")

    restarted = runtime.run("restart")
    assert restarted.returncode == 0
    [new_pid] = runtimes_under(runtime.directory)
    assert new_pid != pid
    assert restarted.stdout.startswith(f"Stopped (PID {pid})\nStarted the daemon\n   PID: {new_pid}\n")

    stopped = runtime.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"Stopped (PID {new_pid})\n")
    assert runtimes_under(runtime.directory) == []
    assert not runtime.socket.exists()

    twice = runtime.run("stop")
    assert (twice.returncode, twice.stdout) == (0, f"Not running: nobody listens on {runtime.socket}\n")


def test_status_as_json_has_the_same_keys_whether_it_runs_or_not(runtime: Place) -> None:
    absent = runtime.run("status", "--json")
    assert absent.returncode == 3
    runtime.run("start")
    present = runtime.run("status", "--json")
    assert present.returncode == 0
    [pid] = runtimes_under(runtime.directory)
    told = json.loads(present.stdout)
    assert 0 <= told.pop("uptime_s") < 60
    assert told.pop("statistics").keys() >= {"pool", "policies"}
    common = {"socket": str(runtime.socket)}
    assert told == common | {
        "running": True,
        "state": "running",
        "reason": None,
        "pid": pid,
        "uid": os.geteuid(),
        "version": __version__,
        "active_requests": 0,
        "draining": False,
    }
    keys = ["reason", "pid", "uid", "version", "uptime_s", "active_requests", "draining", "statistics"]
    assert json.loads(absent.stdout) == common | dict.fromkeys(keys) | {"running": False, "state": "not_running"}


def test_socket_options_reach_the_daemon_and_relative_paths_are_the_callers(runtime: Place) -> None:
    group = str(os.getgid())
    options = ["--socket", "other.sock", "--socket-mode", "0660", "--socket-group", group, "--log-file", "other.log"]
    started = runtime.run("start", *options)
    assert started.returncode == 0, started.stderr
    other = runtime.directory / "other.sock"
    assert stat.S_IMODE(other.stat().st_mode) == 0o660
    assert runtime.run("stop", "--socket", "other.sock").returncode == 0
    assert "event=started" in (runtime.directory / "other.log").read_text()
    assert not runtime.log.exists()


def test_a_relative_python_path_still_leads_to_the_daemon(runtime: Place) -> None:
    root = Path(runtime.environ["PYTHONPATH"])
    assert runtime.run("start", cwd=root.parent, PYTHONPATH=root.name).returncode == 0


def test_two_starts_at_the_same_time_make_one_daemon(runtime: Place) -> None:
    both = [runtime.begin("start"), runtime.begin("start")]
    said = [process.communicate(timeout=50) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    [pid] = runtimes_under(runtime.directory)
    assert all(f"PID: {pid}\n" in out for out, _ in said)


def test_a_stale_socket_is_replaced(runtime: Place) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime.socket))
    assert runtime.run("status").returncode == 3
    assert runtime.run("start").returncode == 0
    assert runtime.run("status").returncode == 0


def test_a_socket_in_a_directory_that_cannot_be_used_is_one_line(runtime: Place) -> None:
    path = runtime.directory / "missing" / "vastar.sock"
    failed = runtime.run("start", "--socket", str(path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"Error: cannot listen on {path}: No such file or directory; ")
    assert failed.stderr.count("\n") == 1
    # What a directory without write permission gives, root or not: proc takes no file of anybody.
    failed = runtime.run("start", "--socket", "/proc/vastar.sock")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: cannot listen on /proc/vastar.sock: ")
    assert failed.stderr.count("\n") == 1


def test_a_daemon_that_breaks_at_start_is_told_with_the_last_line_of_its_log(runtime: Place) -> None:
    (runtime.directory / "trio.py").write_text("raise ImportError('half an installation')")
    broken = runtime.run("start", PYTHONPATH=f"{runtime.directory}{os.pathsep}{runtime.environ['PYTHONPATH']}")
    assert broken.returncode == 1
    assert broken.stderr == (
        "Error: the daemon did not start: it ended before it was ready (exit status 1); "
        f"{runtime.log} ends with: 'ImportError: half an installation'\n"
    )


def test_a_second_daemon_does_not_displace_the_first(runtime: Place) -> None:
    first = runtime.begin_daemon()
    second = runtime.run("run")
    assert second.returncode == 1
    [message] = [line for line in second.stderr.splitlines() if line.startswith("Error: ")]
    assert f"another daemon (PID {first.pid}) is alive on {runtime.socket}" in message
    assert runtime.probe().pid == first.pid


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (["--socket-mode", "999"], {}, "--socket-mode: '999' is no octal permission such as 0600 or 0660"),
        (["--socket", "/" + "x" * 199], {}, "--socket: the path has 200 bytes; the system allows 107 for a socket"),
        ([], {"VASTAR_TIMEOUT": "soon"}, "VASTAR_TIMEOUT: 'soon' cannot be used; it takes seconds above 0"),
        (["--socket-group", "no-such-group"], {}, "--socket-group: there is no group 'no-such-group'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(
    runtime: Place, arguments: list[str], environ: dict[str, str], line: str
) -> None:
    for command in ("start", "run", "restart"):
        failed = runtime.run(command, *arguments, **environ)
        assert failed.returncode == 2
        assert failed.stderr.startswith(f"Error: {line}")
        assert failed.stderr.count("\n") == 1


def test_bad_usage_exits_with_2(runtime: Place) -> None:
    for arguments in (["bogus"], ["start", "--bogus"], ["stop", "now"]):
        assert runtime.run(*arguments).returncode == 2


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("a symbolic link", lambda path: path.symlink_to(path.parent / "target")),
        ("a FIFO", lambda path: os.mkfifo(path)),
        ("a directory", lambda path: path.mkdir()),
    ],
)
def test_a_log_that_is_no_file_is_refused(runtime: Place, kind: str, make: object) -> None:
    make(runtime.log)  # type: ignore[operator]
    failed = runtime.run("start")
    assert failed.returncode == 1
    advice = "choose another with --log-file or VASTAR_LOG_FILE"
    assert failed.stderr == f"Error: cannot open the log {runtime.log}: it is {kind}; {advice}\n"
    assert runtimes_under(runtime.directory) == []
    assert not (runtime.directory / "target").exists()


def test_stop_lets_the_request_in_flight_finish(runtime: Place, upstream: HeldUpstream) -> None:
    """One stop drains, a second one waits with it and does not cut the request short; start says why it cannot."""
    daemon = runtime.begin_daemon()
    answers: list[HTTPResponse] = []
    client = threading.Thread(target=lambda: answers.append(_get(runtime, upstream.url)))
    client.start()
    assert upstream.arrived.wait(50)
    assert json.loads(runtime.run("status", "--json").stdout)["active_requests"] == 1

    first = runtime.begin("stop")
    read_until(daemon.stderr, "draining")
    found = runtime.probe()
    assert (found.state, found.pid) == (State.CLOSED, daemon.pid)
    status = runtime.run("status")
    assert status.returncode == 1
    assert f"(PID {daemon.pid}) accepts no connections: it is starting or shutting down" in status.stdout
    second = runtime.begin("stop")
    read_until(second.stdout, f"Shutting down already (PID {daemon.pid})")
    refused = runtime.run("start")
    assert refused.returncode == 1
    assert f"another daemon (PID {daemon.pid}) on {runtime.socket} is starting or shutting down" in refused.stderr
    assert first.poll() is None
    assert second.poll() is None

    upstream.release.set()
    client.join(50)
    assert answers[0].body == b"late"
    for stop in (first, second):
        said, _ = stop.communicate(timeout=50)
        assert stop.returncode == 0
        assert said.endswith(f"Stopped (PID {daemon.pid})\n")
    assert daemon.wait(50) == 0


def test_a_second_signal_stops_now(runtime: Place, upstream: HeldUpstream) -> None:
    daemon = runtime.begin_daemon()
    failures: list[Exception] = []

    def ask() -> None:
        try:
            _get(runtime, upstream.url)
        except Exception as error:
            failures.append(error)

    client = threading.Thread(target=ask)
    client.start()
    assert upstream.arrived.wait(50)
    daemon.send_signal(signal.SIGTERM)
    read_until(daemon.stderr, "draining")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    client.join(50)
    assert len(failures) == 1
    assert not runtime.socket.exists()


def test_ctrl_c_ends_a_foreground_daemon_quietly(runtime: Place) -> None:
    daemon = runtime.begin_daemon()
    os.killpg(daemon.pid, signal.SIGINT)
    out, err = daemon.communicate(timeout=50)
    assert (daemon.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "Aborted" not in err


def test_the_log_of_the_last_run_is_kept(runtime: Place) -> None:
    runtime.log.write_text("from before\n")
    assert runtime.run("start").returncode == 0
    assert runtime.log.read_text().startswith("from before\n")


def _get(runtime: Place, url: str) -> HTTPResponse:
    with RuntimeClient(RuntimeConfig(socket_path=str(runtime.socket), use_tcp=False)) as client:
        return client.execute_http(GET(url))


def test_a_restart_keeps_the_file_that_the_daemon_runs_with_and_status_tells_it(runtime: Place) -> None:
    file = runtime.directory / "runtime.toml"
    file.write_text("[policy.retry]\nmax_retries = 1\n")
    del runtime.environ["VASTAR_CONFIG"]
    started = runtime.run("start", "--config", "runtime.toml")
    assert f"\n   Configuration: {file}\n" in started.stdout, started.stderr
    assert f"\n   Configuration: {file}\n" in runtime.run("status").stdout

    restarted = runtime.run("restart")

    assert f"\n   Configuration: {file}\n" in restarted.stdout, restarted.stderr
    assert f"\n   Configuration: {file}\n" in runtime.run("status").stdout
    read_at_s = json.loads(runtime.run("status", "--json").stdout)["statistics"]["configured_at_unix_s"]
    os.utime(file, (read_at_s + 10, read_at_s + 10))
    assert f"   Configuration: {file} (changed since it was read; apply" in runtime.run("status").stdout

    os.unlink(file)
    assert f"   Configuration: {file} (gone since it was read)" in runtime.run("status").stdout

    other = runtime.directory / "other.toml"
    other.write_text("")
    assert f"\n   Configuration: {other}\n" in runtime.run("restart", "--config", str(other)).stdout


def test_a_restart_with_a_socket_stays_on_it_whatever_the_file_says_by_now(runtime: Place) -> None:
    first, second = (runtime.directory / name for name in ("first.sock", "second.sock"))
    file = runtime.directory / "runtime.toml"
    file.write_text(f'[listen]\nsocket = "{first}"\n')
    for name in ("VASTAR_CONFIG", "VASTAR_SOCKET_PATH"):
        del runtime.environ[name]
    assert runtime.run("start", "--config", str(file)).returncode == 0
    [pid] = runtimes_under(runtime.directory)
    file.write_text(f'[listen]\nsocket = "{second}"\n')

    restarted = runtime.run("restart", "--socket", str(first))
    assert f"Stopped (PID {pid})" in restarted.stdout, restarted.stderr
    assert f"   Socket: {first}\n   Configuration: {file}\n" in restarted.stdout
    assert len(runtimes_under(runtime.directory)) == 1
    assert first.exists()
    assert not second.exists()
