"""Everything that runs for as long as the run does: the upstreams, nginx, and the daemons; and how to load each."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from bench import nginx
from bench.daemon import Daemon, knows_workers, start_daemon
from bench.errors import BenchError
from bench.load import MAX_WIRE_BODY_BYTES, Load, Upstream, Values
from bench.native_tools import compile_tools
from bench.processes import Processes
from bench.usage import cpu_s

TargetName = Literal["direct", "nginx", "httpx2", "daemon", "daemon-2"]
START_PATIENCE_S = 10.0
SCRIPTS = Path(__file__).resolve().parents[1]

NO_WORKERS = "this vastar-runtime has no --workers"
TOO_LONG = "a request body of this size is over the wire's frame limit of 10 MiB"
NO_TLS = "the load generator speaks no TLS"


class Skipped(Exception):
    """This target cannot do this; why."""


@dataclass
class Stage:
    """What runs.

    Attributes:
        runtime: the vastar-runtime under measurement.
        origins: where the upstreams are, by kind; without TLS when there is no nginx.
        missing: targets that this run has to do without, and why.
    """

    processes: Processes
    runtime: str
    wireload: Path
    origins: dict[Upstream, str]
    nginx_path: str | None
    missing: dict[TargetName, str] = field(default_factory=dict)
    trusted: Path | None = None
    relay_port: int = 0
    relay: subprocess.Popen[bytes] | None = None
    daemons: dict[TargetName, Daemon] = field(default_factory=dict)

    @property
    def daemon_variables(self) -> dict[str, str]:
        """The environment that a daemon needs to trust the upstream's certificate."""
        return {"SSL_CERT_FILE": str(self.trusted)} if self.trusted else {}

    def fresh_daemon(self, name: str, workers: int = 1) -> Daemon:
        """Another daemon, for the caller to stop."""
        return start_daemon(self.processes, self.runtime, name, workers, self.daemon_variables)

    def url(self, load: Load) -> str:
        """Where a load's requests go, in the end.

        Raises:
            Skipped: there is no such upstream.
        """
        if load.upstream not in self.origins:
            raise Skipped(nginx.HOW_TO_INSTALL)
        return self.origins[load.upstream] + load.path

    def require(self, target: TargetName) -> None:
        """See that the target is there.

        Raises:
            Skipped: it is not, and why.
        """
        if target in self.missing:
            raise Skipped(self.missing[target])

    def load(self, target: TargetName, load: Load) -> Values:
        """Load a target.

        Returns:
            What the generator reports, with the CPU time of the target's processes, in µs per request and per event.

        Raises:
            Skipped: it cannot do this.
            BenchError: something that runs has ended.
        """
        self.require(target)
        command, pid = self._command(target, load)
        before_s = cpu_s(pid) if pid else 0.0
        output = self.processes.run(f"load-{target}", command, load.timeout_s)
        used_s = cpu_s(pid) - before_s if pid else 0.0
        try:
            values: Values = json.loads(output)
        except ValueError as error:
            raise BenchError(f"the load generator on {target} printed no result: {output[:200]!r}") from error
        if pid or "cpu_s" in values:
            values["cpu_s"] = used_s = values.get("cpu_s", used_s)
            values["cpu_us_per_request"] = 1e6 * used_s / max(1, values["requests"])
            if "events" in values:
                values["cpu_us_per_event"] = 1e6 * used_s / max(1, values["events"])
        return values

    def wire_command(self, daemon: Daemon, load: Load) -> list[str | Path]:
        """The command of a load on a daemon."""
        return [self.wireload, "-s", daemon.socket_path, *load.wireload(self.url(load), is_http=False)]

    def _command(self, target: TargetName, load: Load) -> tuple[list[str | Path], int | None]:
        """The generator's command, and the process whose tree does the work; None: the generator says itself."""
        url = self.url(load)
        if target == "httpx2":
            return python("httpx2_load", msgspec.json.encode(load).decode(), url, str(self.trusted or "")), None
        if target in ("daemon", "daemon-2"):
            if load.body_bytes > MAX_WIRE_BODY_BYTES:
                raise Skipped(TOO_LONG)
            daemon = self.daemons[target]
            return self.wire_command(daemon, load), daemon.process.pid
        pid = None
        if target == "nginx" and self.relay is not None:
            prefix = "" if load.upstream == "plain" else f"/{load.upstream}"
            url = f"http://127.0.0.1:{self.relay_port}{prefix}{load.path}"
            pid = self.relay.pid
        elif load.upstream != "plain":
            raise Skipped(NO_TLS)
        address = url.removeprefix("http://").partition("/")[0]
        return [self.wireload, "-a", address, *load.wireload(url, is_http=True)], pid


def python(module: str, *arguments: str) -> list[str | Path]:
    """The command of a module of this package, in a process of its own."""
    run = f"runpy.run_module('bench.{module}', run_name='__main__')"
    return [sys.executable, "-c", f"import runpy, sys; sys.path[0] = {str(SCRIPTS)!r}; {run}", *arguments]


@contextmanager
def stage(runtime: str) -> Iterator[Stage]:
    """Start everything; stop it at the end, whatever happens.

    Args:
        runtime: the command of the vastar-runtime to be measured.

    Raises:
        BenchError: something did not start, or has ended.
    """
    has_workers = knows_workers(runtime)
    with Processes() as processes:
        tools = compile_tools(processes.directory)
        upstream_port = _start_upstream(processes, tools["upstream"])
        on = Stage(
            processes,
            runtime,
            tools["wireload"],
            {"plain": f"http://127.0.0.1:{upstream_port}"},
            nginx.find_nginx(),
        )
        if on.nginx_path is None:
            on.missing["nginx"] = nginx.HOW_TO_INSTALL
        else:
            ports, on.trusted = nginx.start_tls_upstream(processes, on.nginx_path)
            on.origins |= {"tls_kept": _https(ports["tls_kept"]), "tls_new": _https(ports["tls_new"])}
            on.relay_port, on.relay = nginx.start_relay(processes, on.nginx_path, upstream_port, ports, on.trusted)
        on.daemons["daemon"] = on.fresh_daemon("daemon")
        if has_workers:
            on.daemons["daemon-2"] = on.fresh_daemon("daemon-2", workers=2)
        else:
            on.missing["daemon-2"] = NO_WORKERS
        yield on
        processes.check()


def _https(port: int) -> str:
    return f"https://127.0.0.1:{port}"


def _start_upstream(processes: Processes, program: Path) -> int:
    process = processes.start("upstream", [program, "0"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_PATIENCE_S)[0]:
        raise BenchError(f"the upstream did not listen within {START_PATIENCE_S:.0f} s")
    line = process.stdout.readline()
    if not line:
        process.wait(START_PATIENCE_S)
        processes.check()
    return int(line)
