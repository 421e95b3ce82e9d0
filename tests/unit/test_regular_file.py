"""What every reader of a file that a user named relies on."""

import builtins
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from vastar_runtime.regular_file import NotRegular, read_regular_file


class Silent:
    """A file of /proc that would wait for what comes next."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        pass

    def read(self, size: int) -> None:
        return None


def test_a_file_is_read_to_its_end_or_to_a_byte_past_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcd")
    for max_bytes, data, is_cut in ((5, b"abcd", False), (4, b"abcd", False), (3, b"abcd", True), (0, b"a", True)):
        content = read_regular_file(str(path), max_bytes)
        assert (content.data, content.is_cut, content.was_written_to) == (data, is_cut, False)
        assert content.status.st_ino == path.stat().st_ino


def test_what_is_no_file_of_bytes_is_told_apart_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = os.listdir("/proc/self/fd")
    os.mkfifo(tmp_path / "fifo")
    for path, is_directory in ((tmp_path, True), (tmp_path / "fifo", False)):
        with pytest.raises(NotRegular) as caught:
            read_regular_file(str(path), 1)
        assert caught.value.is_directory is is_directory
    (tmp_path / "silent").touch()
    with monkeypatch.context() as patch, pytest.raises(BlockingIOError):
        patch.setattr(builtins, "open", lambda *_, **__: Silent())
        read_regular_file(str(tmp_path / "silent"), 1)
    assert os.listdir("/proc/self/fd") == descriptors
