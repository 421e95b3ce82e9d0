"""Reading a file that someone else chose. Whatever lies at its path, reading it ends, and takes bounded memory; it may
hang with its disk."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple


class NotRegular(Exception):
    """What lies at the path holds no bytes to be read to an end: a directory, a FIFO, a device.

    Attributes:
        is_directory: it is the first of these.
    """

    def __init__(self, is_directory: bool) -> None:
        super().__init__("it is a directory" if is_directory else "it is no regular file")
        self.is_directory = is_directory


class Content(NamedTuple):
    """What was read.

    Attributes:
        data: from the beginning.
        is_cut: there is more than the limit; data has one byte of that.
        was_written_to: while it was read, so that data may be half of the old and half of the new.
        status: of the file, after that.
    """

    data: bytes
    is_cut: bool
    was_written_to: bool
    status: os.stat_result


def read_regular_file(path: str, max_bytes: int) -> Content:
    """The bytes of a file; links are followed.

    Raises:
        NotRegular: it is something else.
        BlockingIOError: it has nothing to be read at the moment, not even an end, as some of /proc have not.
        OSError: it cannot be opened, as a socket cannot, or read.
    """
    # Opening a FIFO or a terminal must neither wait nor take hold of it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise NotRegular(stat.S_ISDIR(before.st_mode))
        with open(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        after = os.fstat(fd)
    finally:
        os.close(fd)
    was_written_to = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    return Content(data, len(data) > max_bytes, was_written_to, after)
