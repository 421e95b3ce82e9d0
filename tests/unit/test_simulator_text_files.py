"""What is said of a file that has no text for the simulator."""

import os
from pathlib import Path

import pytest

from vastar_runtime.simulator.text_files import UnreadableFile, read_text


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_text(str(path), 8)
    return str(caught.value)


def test_the_cause_is_named_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    for data, cause in (
        (b"\xef\xbb\xbfa\n\xff", "it is no UTF-8 text (line 2, byte 0xff)"),
        (b"9 of them", "it has more than 8 bytes"),
    ):
        (tmp_path / "file").write_bytes(data)
        assert refusal(tmp_path / "file") == cause
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "fifo") == "it is no regular file"
    assert refusal(tmp_path) == "is a directory"
    assert refusal(tmp_path / "missing") == "no such file or directory"
    assert os.listdir("/proc/self/fd") == descriptors
