"""A daemon whose socket somebody has removed: it is told apart from one that shuts down, and there is a way out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest
from command_place import Place, place

from vastar_runtime.cli import main
from vastar_runtime.cli.doctor_checks.circumstances import look
from vastar_runtime.cli.doctor_checks.finding import State
from vastar_runtime.cli.doctor_checks.socket_place import check_socket

Command = Callable[..., tuple[object, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command in this process: exit code, and what it says."""

    def run(runtime: Place, *words: str) -> tuple[object, str, str]:
        for name in ("VASTAR_CONFIG", "VASTAR_SOCKET_PATH", "VASTAR_LOG_FILE"):
            monkeypatch.setenv(name, runtime.environ[name])
        monkeypatch.setattr(sys, "argv", ["vastar-runtime", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_it_is_said_what_happened_and_stop_ends_it(command: Command) -> None:
    with place() as runtime:
        daemon = runtime.begin_daemon()
        runtime.socket.unlink()
        why = (
            f"he daemon (PID {daemon.pid}) has lost its socket {runtime.socket}, which was removed: nobody can "
            "connect; restart it, with the options that it was started with, --config too: vastar-runtime restart "
            f"--socket {runtime.socket}\n"
        )
        assert command(runtime, "status") == (1, f"T{why}", "")
        told = json.loads(command(runtime, "status", "--json")[1])
        assert (told["running"], told["state"], told["pid"]) == (True, "cut_off", daemon.pid)
        for name in ("reload", "start"):
            assert command(runtime, name) == (1, "", f"Error: t{why}")

        here = look(runtime.environ, config_path=None, socket_path=None, log_path=str(runtime.log), tenant_id="default")
        assert here.found is not None
        assert here.found.uid == os.geteuid()
        [finding] = check_socket(here)
        assert finding.state is State.PROBLEM
        assert "which was removed" in finding.found

        os.unlink(f"{runtime.socket}.lock")  # the same cleaner comes by here
        assert command(runtime, "status") == (1, f"T{why}", "")
        assert command(runtime, "stop") == (0, f"Stopped (PID {daemon.pid})\n", "")
        assert daemon.wait(20) == 0
        assert command(runtime, "status")[0] == 3
