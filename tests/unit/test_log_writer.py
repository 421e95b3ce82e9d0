"""The log's writer: it never makes a request wait, and loses nothing unless its reader stalls."""

import os
import threading
from functools import partial

import pytest

from vastar_runtime.telemetry import background_writer
from vastar_runtime.telemetry.background_writer import BackgroundWriter, write_all


class StalledSink:
    """A pipe whose reader stalls until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.written = b""

    def __call__(self, data: bytes) -> None:
        self.entered.set()
        assert self.go_on.wait(30)
        self.written += data


def test_what_was_written_is_there_at_the_end_in_order() -> None:
    written: list[bytes] = []
    with BackgroundWriter(written.append) as writer:
        for number in range(1000):
            writer.write_later(f"{number}\n")
    assert b"".join(written).split() == [b"%d" % number for number in range(1000)]


def test_a_reader_that_stalls_costs_lines_and_their_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_writer, "MAX_WAITING_LINES", 3)
    sink = StalledSink()
    with BackgroundWriter(sink) as writer:
        writer.write_later("taken\n")
        assert sink.entered.wait(30)
        for number in range(10):
            writer.write_later(f"{number}\n")  # returns at once, whatever the reader does
        sink.go_on.set()
    assert sink.written.decode().splitlines() == [
        *("taken", "0", "1", "2"),
        'level=warning event="log lines dropped" count=7',
    ]


def test_lines_that_come_together_leave_together() -> None:
    """A thread that woke up for each line would take the interpreter from the requests that write them."""
    written: list[bytes] = []
    with BackgroundWriter(written.append) as writer:
        for number in range(100):
            writer.write_later(f"{number}\n")
    assert len(written) <= 2


def test_a_writer_that_has_gone_to_sleep_is_woken_by_a_line_and_by_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_writer, "LOOKS_IN_VAIN", 1)
    written: list[bytes] = []
    has_written = threading.Event()

    def sink(data: bytes) -> None:
        written.append(data)
        has_written.set()

    with BackgroundWriter(sink) as writer:
        for number in range(3):
            while not writer._is_asleep:
                os.sched_yield()
            has_written.clear()
            writer.write_later(f"{number}\n")
            assert has_written.wait(30)
        while not writer._is_asleep:
            os.sched_yield()
    assert written == [b"0\n", b"1\n", b"2\n"]
    assert not writer._thread.is_alive()


def test_a_descriptor_that_takes_a_little_at_a_time_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data)[:7]))
    read_fd, write_fd = os.pipe()
    write_all(write_fd, b"0123456789" * 10)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        assert pipe.read() == b"0123456789" * 10


def test_a_reader_that_stalls_for_good_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_writer, "FLUSH_TIMEOUT_S", 0.05)
    sink = StalledSink()
    with BackgroundWriter(sink) as writer:
        writer.write_later("never read\n")
        assert sink.entered.wait(30)
    assert sink.written == b""
    sink.go_on.set()


def test_a_reader_that_has_gone_costs_lines_only() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with BackgroundWriter(partial(write_all, write_fd)) as writer:
        writer.write_later("nobody reads this\n")
        writer.write_later("nor this\n")
    os.close(write_fd)
