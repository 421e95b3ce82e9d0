"""A place of its own for commands under test: socket, log, environment, and an upstream that answers when told."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from vastar_runtime.cli.probe import Found, probe
from vastar_runtime.cli.process import describe

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "vastar_runtime"]
TIMEOUT_S = 50


class Place:
    """Runs commands against a private socket and log. The directory's path is short enough for a socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "vastar.sock"
        self.log = directory / "vastar.log"
        foreign = ("VASTAR_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
        self.environ = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
        self.environ |= {
            "VASTAR_CONFIG": os.devnull,  # whatever this machine's own file says
            "VASTAR_SOCKET_PATH": str(self.socket),
            "VASTAR_LOG_FILE": str(self.log),
            "PYTHONPATH": str(ROOT),
        }
        self._started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command from start to end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            env=self.environ | environ,
            cwd=cwd or self.directory,
            timeout=TIMEOUT_S,
            check=False,
        )

    def begin(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """A command that goes on, in a session of its own."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ | environ,
            cwd=self.directory,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def begin_daemon(self) -> "subprocess.Popen[str]":
        """``run`` that accepts connections; its log comes through its standard error."""
        daemon = self.begin("run")
        read_until(daemon.stderr, "started")
        return daemon

    def probe(self) -> Found:
        return probe(str(self.socket))

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in runtimes_under(self.directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    opened = Place(Path(tempfile.mkdtemp(prefix="v-", dir="/tmp")))
    try:
        yield opened
    finally:
        opened.close()


class HeldUpstream:
    """Takes one HTTP request and answers it when ``release`` is set."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/held"
        self.arrived = threading.Event()
        self.release = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # closed, or left by the daemon
            connection, _ = self._listening.accept()
            with connection:
                connection.recv(65536)
                self.arrived.set()
                self.release.wait(TIMEOUT_S)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    def close(self) -> None:
        self.release.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(TIMEOUT_S)


def read_until(stream: object, word: str) -> str:
    """What a stream says up to the line that holds a word."""
    said = ""
    for line in stream:  # type: ignore[attr-defined]
        said += line
        if word in line:
            return said
    raise AssertionError(f"it ended without saying {word!r}: {said}")


def runtimes_under(directory: Path) -> list[int]:
    """The pids of daemons whose socket lies in a directory, as ``pgrep -f`` would find them."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if describe(pid).startswith(f"vastar-connector-runtime --socket {directory}/")]


def processes_in_session(session: int) -> list[str]:
    """The command lines of a session's processes that have not ended."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            state, _, _, its_session = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append(describe(int(name)))
    return found
