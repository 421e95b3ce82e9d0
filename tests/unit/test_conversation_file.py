"""A conversation in a file: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import connector_sdk.conversation_file as conversation_file
from connector_sdk import ConnectorException
from connector_sdk.conversation_file import Saved, load, save
from connector_sdk.openai import Message

SAVED = Saved("m", "s", [Message("user", "a"), Message("assistant", "ö"), {"role": "user", "content": []}])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "talk.json")


def test_what_was_saved_is_loaded(path: str) -> None:
    save(path, SAVED)
    assert load(path) == SAVED
    assert json.loads(Path(path).read_text())["version"] == 1
    save(path, Saved(None, None, []))
    assert load(path) == Saved(None, None, [])


def _tree(**changes: Any) -> str:
    return json.dumps({"version": 1, "messages": [], **changes})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "no JSON: Expecting value in line 1"),
        ('{"version": 1,\n"messages": [', "no JSON: Expecting value in line 2"),
        ("[]", "no saved conversation: it has no messages"),
        ("{}", "no saved conversation"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "a number too long"),
        (_tree(version=2), "its version is 2; this package reads 1"),
        (_tree(version=None), "its version is none that is known"),
        (_tree(version=True), "its version is True"),
        (_tree(keys="x"), "there is no 'keys'; known: messages, model, system, version"),
        (_tree(messages={}), "messages: it takes a list"),
        (_tree(messages=[7]), "message 1: it takes an object with role and content"),
        (_tree(messages=[{"role": "user", "content": "a"}, {"role": "x", "content": "a"}]), "message 2: .*role is 'x'"),
        (_tree(messages=[{"role": "user", "content": 7}]), "message 1: .*its content is no text"),
        (_tree(messages=[{"role": [], "content": "a"}]), "message 1: .*its role is no text"),
        (
            '{"version": 1, "messages": [{"role": ' + "[" * 300 + "]" * 300 + ', "content": "a"}]}',
            "its role is no text",
        ),
        (
            _tree(messages=[{"role": "assistant", "content": "a", "tool_calls": 5}]),
            "message 1: .*its tool_calls are no",
        ),
        (_tree(model=7), "model: it takes text"),
        (_tree(system=[]), "system: it takes text"),
        (b"\xff\xfe", r"it is not UTF-8 \(byte 0\)"),
    ],
)
def test_what_is_wrong_is_named(path: str, content: str | bytes, error: str) -> None:
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConnectorException, match=error) as e:
        load(path)
    assert path in str(e.value)
    assert "\n" not in str(e.value)


def test_files_that_are_none(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(conversation_file, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(conversation_file, "MAX_MESSAGES", 3)
    Path(path).write_text(" " * 101)
    for name, error in (
        (str(tmp_path), "no regular file|Is a directory"),
        (str(tmp_path / "pipe"), "no regular file"),
        (str(tmp_path / "none"), "No such file"),
        (path, "more than 100 bytes"),
        ("\0", "null"),
    ):
        with pytest.raises(ConnectorException, match=f"cannot read the conversation .*({error})"):
            load(name)
    for saved in (Saved("m" * 100, None, []), Saved(None, None, [Message("user", "")] * 4)):
        with pytest.raises(ConnectorException, match="cannot be saved"):
            save(path, saved)


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, path: str) -> None:
    save(path, SAVED)
    with pytest.raises(ConnectorException, match="message cannot be saved"):
        save(path, Saved(None, None, [{"role": "user", "content": [{1: object()}]}]))
    with pytest.raises(ConnectorException, match="message cannot be saved"):
        save(path, Saved(None, None, [Message("user", "\ud800")]))
    assert load(path) == SAVED
    os.mkdir(tmp_path / "folder")
    for name in (str(tmp_path / "none" / "talk"), str(tmp_path / "folder")):
        with pytest.raises(ConnectorException, match="cannot write the conversation"):
            save(name, SAVED)
    assert sorted(os.listdir(tmp_path)) == ["folder", "talk.json"]


def test_what_is_no_file_stays(tmp_path: Path, path: str) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    save(path, SAVED)
    link.symlink_to(path)
    with pytest.raises(ConnectorException, match=f"cannot write the conversation {pipe}: it is no regular file"):
        save(str(pipe), SAVED)
    with pytest.raises(ConnectorException, match=f"{link}: it is a symbolic link; name the file that it leads to"):
        save(str(link), Saved(None, None, []))
    assert load(str(link)) == SAVED
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "talk.json"]
    assert pipe.is_fifo()
