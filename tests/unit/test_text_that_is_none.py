"""Paths and arguments whose bytes are no UTF-8: how they leave a process."""

from __future__ import annotations

import io
import json
import os
import sys

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from setproctitle import getproctitle, setproctitle

from vastar_runtime import exact_json
from vastar_runtime.cli.ending import ending
from vastar_runtime.cli.printing import json_line
from vastar_runtime.cli.process import title
from vastar_runtime.config import Listen, Settings
from vastar_runtime.config.paths import absolute_path
from vastar_runtime.errors import StartupError
from vastar_runtime.workers.messages import Configure

SOCKET = os.fsdecode(b"/home/J\xf6rg/x.sock")


@given(st.text(st.characters()), st.text())
def test_between_our_processes_json_is_exact_for_every_text(text: str, key: str) -> None:
    value = {key: [text, None, 1.5]}
    assert exact_json.decode(exact_json.encode(value), dict[str, list[str | float | None]]) == value


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"{", b"[" * 100_000, b"7", b'{"a":1}', b"9" * 5000, b'{"a":"\\udcf6"} {}']
)
def test_what_is_no_such_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        exact_json.decode(data, dict[str, str])


def test_json_for_others_is_unicode_that_every_parser_takes() -> None:
    line = json_line({"socket": SOCKET, "more": [("\U0001f600", {SOCKET: None})]})
    assert line.isascii()
    read = msgspec.json.decode(line)  # refuses halves of surrogate pairs
    assert read == json.loads(line)
    assert read == {
        "socket": "/home/J\\udcf6rg/x.sock",
        "more": [["\U0001f600", {"/home/J\\udcf6rg/x.sock": None}]],
    }


def test_a_process_can_have_the_title_of_such_a_socket() -> None:
    before = getproctitle()
    try:
        setproctitle(title(SOCKET))
        assert getproctitle() == title(SOCKET) == "vastar-connector-runtime --socket /home/J\\udcf6rg/x.sock"
    finally:
        setproctitle(before)


def test_workers_are_told_settings_without_the_socket() -> None:
    settings = Settings(listen=Listen(socket_path=SOCKET))
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(Configure.of(settings)), type=Configure)
    assert told.settings == Settings()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_what_the_output_has_no_character_for_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    with ending():
        click.echo(f"Stopped {SOCKET}")
    assert written.getvalue() == b"Stopped /home/J\\udcf6rg/x.sock\n"


def test_a_path_that_this_locale_cannot_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("ascii", "surrogateescape"))
    assert absolute_path(SOCKET) == SOCKET
    with pytest.raises(ValueError, match=r"^'/home/Jürg' has characters that this locale .*; set LC_ALL=C.UTF-8$"):
        absolute_path("/home/Jürg")


def test_json_of_any_depth_is_printed_or_refused_in_words() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(StartupError, match="nested too deeply"):
        json_line(value)
