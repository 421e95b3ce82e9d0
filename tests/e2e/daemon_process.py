"""The daemon as users run it: a process of its own, on a socket of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

from wire_client import WireClient, connected

COMMAND = [sys.executable, "-m", "vastar_runtime", "run"]
EXIT_PATIENCE_S = 20


class _Log:
    """What a process writes to its standard error, taken in by a thread as it comes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.text = ""
        self._pipe = pipe
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._take_in, daemon=True)
        self._thread.start()

    def _take_in(self) -> None:
        for line in self._pipe:
            with self._changed:
                self.text += line.decode()
                self._changed.notify_all()

    def complete(self) -> None:
        """Wait for the last line of a process that has ended."""
        self._thread.join(EXIT_PATIENCE_S)

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.text, EXIT_PATIENCE_S), (
                f"{text!r} is not in the log:\n{self.text}"
            )


@dataclass(eq=False)
class DaemonProcess:
    process: subprocess.Popen[bytes]
    socket_path: str
    _log: _Log | None
    _ready: TextIO

    def ready(self) -> str:
        """What it wrote to its ready pipe: "ready", or why it cannot start. Waits until it is the one or the other."""
        # Ends when the daemon closes its side: after the line, or because it ended.
        return self._ready.read().strip()

    @property
    def log(self) -> str:
        """What it has logged so far, all of it once it has ended. A line may come a moment after what it tells of."""
        if self._log is None:
            return ""
        if self.process.poll() is not None:
            self._log.complete()
        return self._log.text

    @property
    def tcp_port(self) -> int:
        self.wait_for_log("event=started")
        found = re.search(r"event=started .*tcp_port=(\d+)", self.log)
        assert found is not None, self.log
        return int(found[1])

    def connect(self) -> AbstractAsyncContextManager[WireClient]:
        return connected(self.socket_path)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(EXIT_PATIENCE_S)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait_for_log(self, text: str) -> None:
        """Return once the log says ``text``."""
        assert self._log is not None
        self._log.wait_for(text)


@contextmanager
def socket_directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    path = tempfile.mkdtemp(dir="/tmp", prefix="vcr-")
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path)


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would change the daemon's ways."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VASTAR_") and not name.lower().endswith("_proxy")
    }
    return clean | {"VASTAR_CONFIG": os.devnull} | variables  # whatever this machine's own file says


@contextmanager
def starting(
    *options: str,
    socket_path: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
    command: list[str] = COMMAND,
    stderr: IO[bytes] | None = None,
) -> Iterator[DaemonProcess]:
    """Start a daemon without waiting for it. Killed at the end, if it still runs.

    Args:
        stderr: where it logs to instead; ``log`` is empty then.
    """
    with socket_directory() as directory:
        path = str(socket_path or directory / "daemon.sock")
        reader, writer = os.pipe()
        with open(reader, encoding="utf-8") as ready:
            process = subprocess.Popen(
                [*command, "--socket", path, "--ready-fd", str(writer), *options],
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr or subprocess.PIPE,
                env=environment(**(variables or {})),
            )
            os.close(writer)
            with process:
                log = _Log(process.stderr) if process.stderr else None
                try:
                    yield DaemonProcess(process, path, log, ready)
                finally:
                    process.kill()
                    if log is not None:
                        log.complete()  # before its pipe is closed under it


@contextmanager
def daemon(*options: str, **how: Any) -> Iterator[DaemonProcess]:
    """A daemon that accepts connections; arguments as for ``starting``."""
    with starting(*options, **how) as started:
        assert started.ready() == "ready", started.log
        yield started


def refused(*options: str, exit_code: int = 1, **how: Any) -> str:
    """Start a daemon that must refuse to start: with this exit code, and the one line that this returns."""
    with starting(*options, **how) as started:
        reason = started.ready()
        assert started.wait() == exit_code, started.log
        assert started.log == f"Error: {reason}\n"
        return reason
