"""Keys that only the daemon has are in nothing that daemon, commands or SDK write."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from planted_credential import BOTH, SECRET, credential
from reloadable_daemon import Reloadable, ask, reloadable
from upstream import Peer, Upstream, upstream

from connector_sdk import GET, ConnectorException, RuntimeClient, RuntimeConfig


class Shown:
    """All that daemon, commands and SDK have written."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *texts: object) -> None:
        self.texts += map(str, texts)

    def error(self, error: BaseException) -> None:
        self.add(error, repr(error), vars(error), "".join(traceback.format_exception(error)))


def _sdk(daemon: Reloadable, up: Upstream, shown: Shown) -> None:
    config = RuntimeConfig(socket_path=daemon.running.socket_path, use_tcp=False)
    with RuntimeClient(config) as client:
        for url in (up.origin, f"{up.origin}/break", "http://localhost:1/"):
            try:
                response = client.execute_http(GET(url).with_timeout(2000))
                shown.add(response, repr(response), response.headers)
            except ConnectorException as error:
                shown.error(error)
        shown.add(repr(client), repr(config))


@contextlib.contextmanager
def _planted(tmp_path: Path, origin: str, source: str) -> Iterator[str]:
    """The place that the key is in, for the file."""
    if source == "env":
        yield "env = 'KEY'"
    elif source == "file":
        (tmp_path / "key").write_text(SECRET)
        yield f"file = '{tmp_path / 'key'}'"
    else:
        program = tmp_path / "print-key"
        program.write_text(f"#!/bin/sh\necho {SECRET}\necho {SECRET} >&2\n")
        program.chmod(0o700)
        yield f"command = ['{program}']"


@BOTH
@pytest.mark.parametrize(
    "source",
    ["file", pytest.param("env", marks=pytest.mark.unmeasured), pytest.param("command", marks=pytest.mark.unmeasured)],
)
async def test_the_key_is_in_nothing_that_daemon_or_sdk_write(tmp_path: Path, source: str, workers: int) -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            assert request.header("authorization") == f"Bearer {SECRET}"
            if request.target == "/break":
                await peer.send(b"HTTP/1.1 what? no\r\n\r\n")
                return
            if request.target == "/slow":
                await peer.gone()
                return
            await peer.respond(b"fine", headers=[("X-A", "b")])

    shown = Shown()
    with _planted(tmp_path, "", source) as place:
        async with upstream(script) as up:
            text = credential("http://127.0.0.1:*", place) + credential("http://localhost:*", place, name="other")
            with reloadable(text, "--workers", str(workers), KEY=SECRET) as daemon:
                async with daemon.connect() as client:
                    for target, parameters in [
                        ("/", {}),
                        ("/", {"method": "POST", "body": "x" * 100_000}),
                        ("/break", {}),
                        ("/slow", {"timeout_ms": 200}),
                    ]:
                        shown.add(await client.execute({"url": up.origin + target, **parameters}))
                    shown.add(await ask(client, "statistics"))
                    await trio.to_thread.run_sync(_sdk, daemon, up, shown)
                    for arguments in (
                        ()
                        if workers > 1
                        else (
                            ("status",),
                            ("status", "--json"),
                            ("config", "show", "--config", str(daemon.file)),
                            ("config", "show", "--json", "--config", str(daemon.file)),
                            ("config", "check", "--config", str(daemon.file)),
                            ("config", "explain", "--config", str(daemon.file), "--url", up.origin),
                            ("usage",),
                            ("usage", "--json"),
                            ("reload",),
                        )
                    ):
                        done = await daemon.command(*arguments)
                        shown.add(done.stdout, done.stderr)
                        assert done.returncode == 0, done
                    # One that cannot be read any more, and one that cannot be used at all.
                    if source == "file":
                        (tmp_path / "key").write_text(f"{SECRET}\nand {SECRET}\n")
                        await daemon.wait_for_log("credential not read again")
                        shown.add((await daemon.command("status")).stdout)
                        shown.add(await daemon.reload(text + credential("https://a.example", place, name="third")))
                        shown.add(await client.execute({"url": "https://a.example"}))
                assert daemon.running.stop() == 0
                shown.add(daemon.running.log)
    everything = "\n".join(shown.texts)
    assert "event=request" in everything
    assert workers > 1 or "credential.authorization" in everything
    assert SECRET not in everything
    assert SECRET.removeprefix("sk-") not in everything


def test_a_key_written_into_the_file_itself_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "runtime.toml"
    for line in (f"env = '{SECRET}'", f"value = '{SECRET}'", f"file = '{SECRET}'", f"command = '{SECRET}'"):
        path.write_text(credential("https://a.example", line))
        done = subprocess.run(
            [sys.executable, "-m", "vastar_runtime", "config", "check", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 1
        assert SECRET not in done.stdout + done.stderr
