"""Where answers come from: the shipped texts, the user's words, a directory that changes and fails."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from vastar_runtime.errors import StartupError
from vastar_runtime.simulator import sources
from vastar_runtime.simulator.request import Message
from vastar_runtime.simulator.settings import SimulatorSettings
from vastar_runtime.simulator.sources import LOOK_EVERY_S, Directory, source_of

HELLO = [Message("user", "Hello")]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def texts_of(source: sources.Source) -> set[str]:
    return {source.text_for([Message("user", str(number))]) for number in range(60)}


def test_a_directory_has_the_texts_of_its_markdown_files(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# One\r\n\n")
    (tmp_path / "b.md").write_text("two é")
    (tmp_path / "blank.md").write_text(" \n")
    (tmp_path / "notes.txt").write_text("no answer")
    (tmp_path / ".hidden.md").write_text("no answer")
    # As an editor locks a file that it has open.
    (tmp_path / ".#a.md").symlink_to("someone@host.1:2")
    (tmp_path / "sub").mkdir()
    source = source_of(SimulatorSettings(responses=str(tmp_path)))
    assert texts_of(source) == {"# One", "two é"}
    # What is in the files is said as it is, whatever came before.
    assert source.text_for([*HELLO, Message("assistant", "x"), *HELLO]) in {"# One", "two é"}


def test_a_file_that_changed_is_read_before_the_next_answer(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    source = Directory(str(tmp_path), Clock())
    assert source.text_for(HELLO) == "old"
    (tmp_path / "a.md").write_text("newer")
    assert source.text_for(HELLO) == "newer"


def test_many_files_are_not_looked_at_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FEW_FILES", 0)
    clock = Clock()
    (tmp_path / "a.md").write_text("old")
    source = Directory(str(tmp_path), clock)
    (tmp_path / "a.md").write_text("newer")
    (tmp_path / "b.md").write_text("added")
    assert texts_of(source) == {"old"}
    clock.now += LOOK_EVERY_S
    assert texts_of(source) == {"newer", "added"}
    (tmp_path / "a.md").unlink()
    clock.now += LOOK_EVERY_S
    assert texts_of(source) == {"added"}


def test_while_a_directory_cannot_be_read_the_old_texts_stay_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    file = tmp_path / "a.md"
    file.write_text("old")
    source = Directory(str(tmp_path), clock)

    def after_a_while() -> str:
        clock.now += LOOK_EVERY_S
        return source.text_for(HELLO)

    file.write_bytes(b"ok\n\xff")
    assert [after_a_while(), after_a_while()] == ["old", "old"]
    assert caplog.messages == [
        f"answers stay as they were: in {tmp_path} a.md cannot be read: it is no UTF-8 text (line 2, byte 0xff)"
    ]
    file.unlink()
    assert after_a_while() == "old"
    assert caplog.messages[1:] == [f"answers stay as they were: in {tmp_path} it has no *.md file with a text in it"]
    file.write_text("new")
    with caplog.at_level(logging.INFO):
        assert after_a_while() == "new"
    assert caplog.messages[2:] == [f"answers: 1 texts read again from {tmp_path}"]
    file.write_bytes(b"\xff")
    assert after_a_while() == "new"
    assert len(caplog.messages) == 4


def test_who_asks_while_files_are_read_again_is_answered_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    (tmp_path / "a.md").write_text("old")
    source = Directory(str(tmp_path), clock)
    (tmp_path / "a.md").write_text("newer")
    meanwhile: list[str] = []
    refresh = source._refresh
    monkeypatch.setattr(source, "_refresh", lambda: (meanwhile.append(source.text_for(HELLO)), refresh()))
    clock.now += LOOK_EVERY_S
    assert (source.text_for(HELLO), meanwhile) == ("newer", ["old"])


def test_a_directory_without_answers_is_one_line_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(path: Path | str) -> str:
        with pytest.raises(StartupError) as caught:
            Directory(str(path))
        message = str(caught.value)
        assert "\n" not in message
        assert message.endswith("; name a directory of *.md files with --responses")
        return message

    assert "it has no *.md file with a text in it" in refusal(tmp_path)
    assert "no such file or directory" in refusal(tmp_path / "missing")
    assert "embedded null" in refusal("a\0b")
    (tmp_path / "file.md").write_text("text")
    assert "not a directory" in refusal(tmp_path / "file.md")
    os.mkfifo(tmp_path / "pipe.md")
    assert "pipe.md cannot be read: it is no regular file" in refusal(tmp_path)
    (tmp_path / "pipe.md").unlink()
    (tmp_path / "loop.md").symlink_to("loop.md")
    assert "loop.md cannot be read: too many levels of symbolic links" in refusal(tmp_path)
    (tmp_path / "loop.md").unlink()
    (tmp_path / "nowhere.md").symlink_to("missing")
    assert "nowhere.md cannot be read: no such file or directory" in refusal(tmp_path)
    (tmp_path / "nowhere.md").unlink()
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 3)
    assert "file.md cannot be read: it has more than 3 bytes" in refusal(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(sources, "MAX_ALL_BYTES", 3)
    assert "its *.md files have more than 3 bytes" in refusal(tmp_path)
    monkeypatch.setattr(sources, "MAX_FILES", 0)
    assert "it has more than 0 *.md files" in refusal(tmp_path)


def test_an_echo_is_what_the_user_said_last() -> None:
    source = source_of(SimulatorSettings(echo=True))
    assert source.text_for([*HELLO, Message("user", "And now?"), Message("assistant", "Well")]) == "And now?"
    assert source.text_for([Message("system", "Be brief.")]) == ""
