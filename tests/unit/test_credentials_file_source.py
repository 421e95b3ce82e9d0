"""A file's content is a secret once it is whole; whatever lies at its path, looking at it ends soon."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import structlog

from vastar_runtime.credentials import file_reading
from vastar_runtime.credentials.file_reading import Reading, Signature, look
from vastar_runtime.credentials.file_source import CERTAIN_S, SETTLED_S, FileSource
from vastar_runtime.credentials.secret import MAX_SOURCE_BYTES, Secret

LONG_AGO = 3600.0
EMPTY = Reading(None, "is empty")
MISSING = Reading(None, "is missing")


def found(secret: str, *, age_s: float = 0.01, state: int = 1) -> Reading:
    return Reading(Secret(secret.encode()), None, Signature(1, 1, len(secret), state, state), age_s)


def source(*readings: Reading) -> FileSource:
    file = FileSource("a", "/run/secrets/a")
    for reading in readings:
        file.saw(reading)
    return file


def value(file: FileSource) -> str | None:
    secret = file.current()
    return None if secret is None else secret.reveal().decode()


# --- when content counts ---


def test_content_that_has_been_there_for_a_while_counts_at_once() -> None:
    assert value(source(found("old", age_s=SETTLED_S))) == "old"


def test_content_that_was_written_just_now_counts_at_the_second_look() -> None:
    file = source(found("new"))
    assert value(file) is None
    assert file.is_unread
    file.saw(found("new"))
    assert value(file) == "new"


def test_half_of_what_is_being_written_never_counts() -> None:
    file = source(found("old", age_s=LONG_AGO))
    for reading in (EMPTY, found("ne", state=2), found("new", state=3)):
        file.saw(reading)
        assert value(file) == "old"
    file.saw(found("new", state=3))
    assert value(file) == "new"


def test_the_same_half_of_two_different_secrets_is_not_one_that_stays() -> None:
    assert value(source(found("old", age_s=LONG_AGO), found("sk-", state=2), found("sk-", state=4))) == "old"


def test_a_clock_that_is_ahead_makes_content_new_and_not_old() -> None:
    file = source(found("old", age_s=-LONG_AGO))
    assert value(file) is None
    file.saw(found("old", age_s=-LONG_AGO))
    assert value(file) == "old"


def test_a_missing_file_is_a_problem_at_once_where_there_is_no_secret_yet() -> None:
    file = source(MISSING)
    assert file.problem == "the file /run/secrets/a is missing"
    file.saw(EMPTY)
    assert file.problem == "the file /run/secrets/a is empty"


def test_a_problem_leaves_the_last_secret_and_is_told_once_when_it_stays() -> None:
    with structlog.testing.capture_logs() as lines:
        file = source(found("old", age_s=LONG_AGO), MISSING)
        assert (value(file), file.problem) == ("old", None)
        for _ in range(3):
            file.saw(MISSING)
            assert (value(file), file.problem) == ("old", "the file /run/secrets/a is missing")
        file.saw(EMPTY)
        file.saw(found("new", age_s=LONG_AGO))
        assert (value(file), file.problem) == ("new", None)
        file.saw(found("newer", age_s=LONG_AGO))
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("credential ready", None),
        ("credential not read again", "the file /run/secrets/a is missing"),
        ("credential not read again", "the file /run/secrets/a is empty"),
        ("credential ready", None),
        ("credential ready", None),  # another secret: whoever has rotated it wants to know
    ]


def test_a_file_is_looked_into_again_while_another_write_could_leave_its_times_as_they_are() -> None:
    assert source(found("old", age_s=CERTAIN_S - 0.1)).known is None
    certain = source(found("old", age_s=CERTAIN_S))
    assert certain.known == Signature(1, 1, 3, 1, 1)
    certain.saw(EMPTY)
    assert certain.known is None


def test_a_path_that_could_forge_a_line_is_told_in_quotes() -> None:
    file = FileSource("a", "/run/a\nb")
    file.saw(MISSING)
    assert file.problem == "the file '/run/a\\nb' is missing"


# --- looking ---


def problem_at(path: Path) -> str | None:
    reading = look(str(path), None)
    assert reading is not None
    assert reading.secret is None
    return reading.problem


def test_a_file_is_read_and_not_again_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1\n")
    first = look(str(path), None)
    assert first is not None
    assert first.secret == Secret(b"sk-1")
    assert look(str(path), first.signature) is None
    for change in (
        lambda: path.write_text("sk-22\n"),
        lambda: os.utime(path, (1, 1)),
        lambda: path.chmod(0o600),
        lambda: (tmp_path / "other").write_text("sk-22\n") and (tmp_path / "other").rename(path),
    ):
        change()
        changed = look(str(path), first.signature)
        assert changed is not None
        first = changed
    assert first.secret == Secret(b"sk-22")


def test_the_age_is_that_of_the_last_writing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    reading = look(str(path), None)
    assert reading is not None
    assert reading.age_s > 10_000_000


def test_a_link_is_followed_and_another_target_is_another_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"sk-{name}")
    data, path = tmp_path / "..data", tmp_path / "key"
    data.symlink_to("one")
    path.symlink_to("..data/key")  # as Kubernetes lays them out
    first = look(str(path), None)
    assert first is not None
    assert first.secret == Secret(b"sk-one")
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(data)
    second = look(str(path), first.signature)
    assert second is not None
    assert second.secret == Secret(b"sk-two")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb", "holds a line break"),
        (b"s" * 20_000, "is larger than 16 KiB"),
        (b" " * (MAX_SOURCE_BYTES + 1), "is larger than 16 KiB"),
        (b"\xff\xfes\0k\0", "holds a character that is not ASCII"),
    ],
)
def test_content_that_is_no_secret(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert problem_at(path) == problem


def test_what_is_no_file_neither_hangs_nor_is_taken_hold_of(tmp_path: Path) -> None:
    assert problem_at(tmp_path / "missing") == "is missing"
    assert problem_at(tmp_path) == "is a directory"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert problem_at(fifo) == "is no regular file"
    (tmp_path / "nowhere").symlink_to("missing")
    assert problem_at(tmp_path / "nowhere") == "is missing"
    (tmp_path / "loop").symlink_to("loop")
    assert problem_at(tmp_path / "loop") == "cannot be read: Too many levels of symbolic links"
    fifo.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(fifo))
        assert problem_at(fifo) == "cannot be read: No such device or address"
    assert problem_at(Path("/dev/zero")) == "is no regular file"


def test_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert problem_at(tmp_path / "file" / "secret") == "cannot be read: Not a directory"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1")
    path.chmod(0o640)
    owner, me = path.stat().st_uid, os.geteuid()

    def refused(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(file_reading.os, "open", refused)
    said = f"cannot be read by the daemon (uid {me}): Permission denied"
    assert problem_at(path) == f"{said}; its owner is uid {owner}, its mode 0640"
    monkeypatch.setattr(file_reading.os, "stat", refused)
    assert problem_at(path) == f"{said}; a directory above it is closed to that user"


def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-1")
    fstat = os.fstat

    def then_written_to(fd: int) -> os.stat_result:
        status = fstat(fd)
        with path.open("a") as file:
            file.write("234")
        return status

    monkeypatch.setattr(file_reading.os, "fstat", then_written_to)
    assert problem_at(path) == "was written to while it was read"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def open_ones() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_ones()
    (tmp_path / "bad").write_text("a\nb")
    (tmp_path / "good").write_text("a")
    for _ in range(10):
        for path in (tmp_path, tmp_path / "bad", tmp_path / "good", tmp_path / "missing"):
            look(str(path), None)
    assert open_ones() == before
