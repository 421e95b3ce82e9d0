"""Where the answer goes: files that are whole or said not to be, terminals that are spared, readers that have gone."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from vastar_runtime.cli import request_output
from vastar_runtime.cli.exit_codes import CommandFailed, ExitCode
from vastar_runtime.cli.request_output import STDOUT, Output


class Stream(io.RawIOBase):
    """Takes three bytes at a time, and notes what was there at each flush."""

    def __init__(self, error: OSError | None = None) -> None:
        self.data = b""
        self.flushed: list[bytes] = []
        self._error = error

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        if self._error is not None:
            raise self._error
        self.data += bytes(memoryview(data)[:3])  # type: ignore[arg-type]
        return min(3, len(memoryview(data)))  # type: ignore[arg-type]

    def flush(self) -> None:
        self.flushed.append(self.data)


def output(
    path: str | None = None, *, stream: Stream | None = None, is_terminal: bool = False, is_prompt: bool = False
) -> Output:
    return Output(path, is_prompt=is_prompt, stdout=stream or Stream(), is_terminal=is_terminal)  # type: ignore[arg-type]


def test_small_pieces_are_held_and_passed_on_at_the_end_and_after_64_kib() -> None:
    stream = Stream()
    with output(stream=stream) as out:
        out.body(b"one")
        out.body(b"two")
        assert stream.data == b""
        out.body(bytes(65536))
        assert len(stream.data) == 65542
        out.body(b"last")
    assert stream.data.endswith(b"last")


@pytest.mark.parametrize(("is_prompt", "is_terminal"), [(True, False), (False, True)])
def test_each_piece_is_passed_on_at_once_where_that_is_wanted(is_prompt: bool, is_terminal: bool) -> None:
    stream = Stream()
    with output(stream=stream, is_prompt=is_prompt, is_terminal=is_terminal) as out:
        out.head(200, [("a", "1")])
        out.body(b"piece")
        assert stream.flushed == [b"HTTP/1.1 200 OK\r\na: 1\r\n\r\n", b"HTTP/1.1 200 OK\r\na: 1\r\n\r\npiece"]


def test_a_binary_body_is_kept_from_a_terminal_unless_it_is_named() -> None:
    stream = Stream()
    with (
        pytest.raises(CommandFailed, match="the body is binary") as caught,
        output(stream=stream, is_terminal=True) as out,
    ):
        out.body(b"text")
        out.body(b"\x7fELF\0")
    assert caught.value.exit_code is ExitCode.NOT_WRITTEN
    assert stream.data == b"text"
    for path, is_terminal in ((STDOUT, True), (None, False)):
        stream = Stream()
        with output(path, stream=stream, is_terminal=is_terminal) as out:
            out.body(b"\0\xff")
        assert stream.data == b"\0\xff"


def test_a_body_that_is_text_for_so_long_is_text() -> None:
    stream = Stream()
    with output(stream=stream, is_terminal=True) as out:
        out.body(b"x" * 2000)
        out.body(b"\0")
    assert len(stream.data) == 2001


def test_a_head_neither_drives_a_terminal_nor_loses_a_byte_elsewhere() -> None:
    shown, kept = Stream(), Stream()
    headers = [("a", "\x1b[2J\xe9")]
    with output(stream=shown, is_terminal=True) as out:
        out.head(799, headers)
    with output(stream=kept) as out:
        out.head(799, headers)
    assert shown.data.decode() == "HTTP/1.1 799\r\na: \ufffd[2Jé\r\n\r\n"
    assert kept.data.decode() == "HTTP/1.1 799\r\na: \x1b[2Jé\r\n\r\n"


def test_a_file_is_opened_when_there_is_an_answer_and_keeps_what_came_of_it(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    path.write_text("of yesterday")
    with output(str(path)) as out:
        out.check()
        assert path.read_text() == "of yesterday"
    assert path.read_text() == "of yesterday"
    with pytest.raises(KeyboardInterrupt), output(str(path)) as out:
        out.begin()
        assert path.read_text() == ""
        out.body(b"a part")
        raise KeyboardInterrupt
    assert path.read_text() == "a part"


def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, f"cannot write {tmp_path}: Is a directory"),
        (tmp_path / "none" / "answer", f"cannot write {tmp_path}/none/answer: there is no directory {tmp_path}/none"),
    ):
        with pytest.raises(CommandFailed, match=f"^{words}$") as caught:
            output(str(path)).check()
        assert caught.value.exit_code is ExitCode.NOT_WRITTEN
    with pytest.raises(CommandFailed, match="embedded null byte"):
        output("a\0b").begin()


def test_a_read_only_file_system_is_told_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "answer"
    file.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    status = list(os.statvfs(tmp_path))
    for flag, words in ((os.ST_RDONLY, "Read-only file system"), (0, "Permission denied")):
        answer = os.statvfs_result([*status[:8], flag, *status[9:]])
        monkeypatch.setattr(os, "statvfs", lambda _path, answer=answer: answer)
        for path in (file, tmp_path / "new"):
            with pytest.raises(CommandFailed, match=f"^cannot write {path}: {words}$"):
                output(str(path)).check()


def test_a_closed_standard_output_is_missed_only_by_what_goes_there(tmp_path: Path) -> None:
    def closed(path: str | None) -> Output:
        return Output(path, is_prompt=False, stdout=None, is_terminal=False)

    with closed(str(tmp_path / "answer")) as out:
        out.check()
        out.body(b"text")
    assert (tmp_path / "answer").read_bytes() == b"text"
    for path in (None, STDOUT):
        with pytest.raises(CommandFailed, match=r"^cannot write the output: it is closed$"):
            closed(path).check()


def test_a_reader_that_has_gone_is_no_error_to_be_told() -> None:
    broken = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    with pytest.raises(CommandFailed, match=r"^$") as caught, output(stream=Stream(broken)) as out:
        out.body(b"text")
    assert caught.value.exit_code is ExitCode.NOT_WRITTEN


def test_a_full_disk_is_told_once_and_does_not_hide_an_earlier_error() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    words = r"^cannot write the output: No space left on device$"
    with pytest.raises(CommandFailed, match=words), output(stream=Stream(full)) as out:
        out.body(b"text")
    with pytest.raises(KeyError), output(stream=Stream(full)) as out:
        out.body(b"text")
        raise KeyError
    if os.path.exists("/dev/full"):
        with pytest.raises(CommandFailed, match=r"^cannot write /dev/full: No space"), output("/dev/full") as out:
            out.body(b"text")


def test_a_pipe_waits_for_its_reader_as_long_as_the_request_has_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    now_s = 0.0
    reader: list[int] = []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if now_s > 100 and not reader:
            reader.append(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))

    monkeypatch.setattr(request_output, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now_s))
    words = f"^cannot write {pipe}: it is a pipe, and nobody opened it to read in time$"
    with pytest.raises(CommandFailed, match=words) as caught, output(str(pipe)) as out:
        out.ends_at = 2
        out.begin()
    assert caught.value.exit_code is ExitCode.TIMEOUT
    assert 2 <= now_s < 3
    with output(str(pipe)) as out:
        out.begin()
        out.body(b"text")
        out.flush()
        assert os.read(reader[0], 10) == b"text"
        assert out._file is not None
        assert os.get_blocking(out._file.fileno()), "a reader that is slow loses nothing"
    os.close(reader[0])
