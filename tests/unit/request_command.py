"""``vastar-runtime request`` in this process, and what its daemon answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import Result
from command_line import run
from scripted_daemon import Peer, Script, ScriptedDaemon, say_hello

from connector_sdk.wire import ErrorClass, ExecuteRequest

URL = "http://h/p"

Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VASTAR_")]:
        monkeypatch.delenv(name)


@contextmanager
def daemon(path: str, script: Script = say_hello) -> Iterator[tuple[ScriptedDaemon, Ask]]:
    def ask(*options: str, url: str = URL, data: bytes = b"") -> Result:
        return run("request", "--socket", path, *options, url, data=data)

    with ScriptedDaemon(script, path) as scripted:
        yield scripted, ask


def pieces(*data: bytes, status: int = 200, error: tuple[ErrorClass, str] | None = None) -> Script:
    """Answers with these pieces, and then perhaps breaks off."""

    def script(peer: Peer, request: ExecuteRequest) -> None:
        peer.head(request, status, ("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
        for piece in data:
            peer.chunk(request, piece)
        peer.end(request.request_id, *(error or (ErrorClass.SUCCESS, None)))

    return script


def failing(error_class: ErrorClass, message: str = "no answer") -> Script:
    return lambda peer, request: peer.end(request.request_id, error_class, message)
