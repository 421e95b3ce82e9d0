"""A daemon with a file that a test rewrites, and the commands that its operator asks it with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import trio
from daemon_process import DaemonProcess, daemon, environment, socket_directory
from upstream import Peer
from wire_client import WireClient

from connector_sdk.wire import ErrorClass

COMMAND_PATIENCE_S = 50
ONE_AN_HOUR = '[policy.rate_limit]\nper_tenant = "1/h"\n'


class Reloadable:
    """A daemon that was started with ``file``."""

    def __init__(self, running: DaemonProcess, file: Path) -> None:
        self.running = running
        self.file = file
        self.environ = environment(VASTAR_SOCKET_PATH=running.socket_path)

    def connect(self) -> AbstractAsyncContextManager[WireClient]:
        return self.running.connect()

    def write(self, text: str) -> None:
        """Another content, in one step, whatever was at its place."""
        new = self.file.with_name("new.toml")
        new.write_text(text)
        os.replace(new, self.file)

    async def command(self, *arguments: str, argv: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """``vastar-runtime ...`` from start to end, while the test's own upstreams go on.

        Args:
            argv: what to run instead of the module.
        """
        return await trio.to_thread.run_sync(
            lambda: subprocess.run(
                [*(argv or (sys.executable, "-m", "vastar_runtime")), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self.environ,
                timeout=COMMAND_PATIENCE_S,
                check=False,
            )
        )

    async def reload(self, text: str) -> str:
        """Another content, and the command that has the daemon read it; what it prints."""
        self.write(text)
        done = await self.command("reload")
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    async def wait_for_log(self, text: str) -> None:
        await trio.to_thread.run_sync(self.running.wait_for_log, text)


@contextmanager
def reloadable(text: str = "", *options: str, **variables: str) -> Iterator[Reloadable]:
    """A daemon that accepts connections, with a file of this content. It must be alive at the end."""
    with socket_directory() as directory:
        file = directory / "runtime.toml"
        file.write_text(text)
        with daemon(*options, variables={"VASTAR_CONFIG": str(file)} | variables) as running:
            yield Reloadable(running, file)
            if running.process.poll() is None:
                assert running.stop() == 0, running.log
            assert "internal error" not in running.log
            assert "Traceback" not in running.log


async def ask(client: WireClient, operation: str) -> dict[str, Any]:
    """What the daemon answers about itself."""
    answer = await client.execute(None, connector_name="runtime", operation=operation)
    assert answer.message == ""
    assert isinstance(answer.payload, dict)
    return answer.payload


def as_nobody(*modules: str) -> tuple[str, ...]:
    """argv of the command line as another user, when this is root; the modules are loaded while it may still be."""
    script = (
        f"import os, sys, {', '.join(modules)}; from vastar_runtime.cli import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv[0] = 'vastar-runtime'\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    sys.stdout.flush()\n"
        "    os._exit(ended.code or 0)  # nothing is left to be written where this user may not\n"
    )
    return (sys.executable, "-c", script)


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


class Held:
    """An upstream that keeps the requests to /held until it is told to answer them; the others it answers at once."""

    def __init__(self, status: int = 200) -> None:
        self.came = trio.Event()
        self.go_on = trio.Event()
        self._status = status

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target.startswith("/held") and not self.go_on.is_set():
                self.came.set()
                await self.go_on.wait()
                await peer.respond(b"late", status=self._status)
            else:
                await peer.respond(b"at once")


async def still_limited(daemon: Reloadable, origin: str) -> None:
    """The settings of ONE_AN_HOUR hold: a tenant that was never seen gets one request."""
    async with daemon.connect() as client:
        tenant = os.urandom(8).hex()
        answers = [await client.execute({"url": origin}, tenant_id=tenant) for _ in range(2)]
        assert [answer.error_class for answer in answers] == [ErrorClass.SUCCESS, ErrorClass.RATE_LIMITED]


async def lifted(daemon: Reloadable, origin: str) -> None:
    """The file is put right, and applied."""
    if daemon.file.is_dir():  # os.replace takes the place of anything else
        daemon.file.rmdir()
    await daemon.reload("")
    async with daemon.connect() as client:
        tenant = os.urandom(8).hex()
        for _ in range(2):
            assert (await client.execute({"url": origin}, tenant_id=tenant)).body == "fine"
