"""The processes of a run: started in a directory of the run's own, watched, and stopped by pid whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from bench.errors import BenchError
from bench.interrupts import held
from bench.usage import process_tree

STOP_PATIENCE_S = 5.0
_SHOWN_CHARACTERS = 300


class Processes:
    """Starts processes and knows them all. A context: at its end all of them are stopped, and the directory removed.

    Attributes:
        directory: for sockets, logs and configuration; its path is short enough for sockets.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vbench-", dir="/tmp"))
        self._running: dict[subprocess.Popen[bytes], str] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in reversed(list(self._running)):
            self.stop(process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        variables: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start one; its standard error goes to ``NAME.log`` in the directory.

        Raises:
            BenchError: there is no such program, or it may not be run.
        """
        with open(self._log(name), "wb") as log, held():
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=log,
                    env=environment(variables or {}),
                    start_new_session=True,  # Ctrl-C is for this process, which stops them in order
                )
            except OSError as error:
                raise BenchError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
            self._running[process] = name
        return process

    def run(self, name: str, command: Sequence[str | Path], timeout_s: float) -> bytes:
        """Run one to its end; what it wrote to its standard output.

        Raises:
            BenchError: it failed or did not end in time, or another process of the run has ended meanwhile.
        """
        process = self.start(name, command, stdout=subprocess.PIPE)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{name} did not end within {timeout_s:.0f} s") from error
        finally:
            self.stop(process)
        self.check()
        if process.returncode != 0:
            raise BenchError(self._end_of(process, name))
        return output

    def check(self) -> None:
        """See that all are alive.

        Raises:
            BenchError: one has ended; its name, and the last line of its log.
        """
        for process, name in self._running.items():
            if process.poll() is not None:
                raise BenchError(self._end_of(process, name))

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop one and what it started: SIGTERM, and SIGKILL for what is left."""
        self._running.pop(process, None)
        tree = process_tree(process.pid) if process.poll() is None else []
        if tree:
            process.terminate()
            try:
                process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                for pid in tree:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _end_of(self, process: subprocess.Popen[bytes], name: str) -> str:
        code = process.returncode
        how = f"with status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        lines = self._log(name).read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"{name} ended {how}" + (f": {last[:_SHOWN_CHARACTERS]}" if last else "")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would change the daemon's ways or lead past loopback."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VASTAR_") and not name.lower().endswith("_proxy") and name != "SSL_CERT_FILE"
    }
    return clean | {"VASTAR_CONFIG": os.devnull} | dict(variables)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
