"""Text files of a user's, of whatever kind lies at their path: reading one ends soon and takes bounded memory."""

import os
import stat


class UnreadableFile(Exception):
    """A file that is not read: ``str()`` is the cause, for the end of a line that names the file."""


def read_text(path: str, max_bytes: int) -> str:
    """The text in a file, without the mark that editors on Windows begin one with.

    Raises:
        UnreadableFile: it is missing, closed to this user, no regular file, too large, or no UTF-8.
    """
    try:
        data = _read(path, max_bytes)
    except OSError as error:
        raise UnreadableFile((error.strerror or str(error)).lower()) from error
    if len(data) > max_bytes:
        raise UnreadableFile(f"it has more than {max_bytes} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"it is no UTF-8 text (line {line}, byte 0x{data[error.start]:02x})") from error


def _read(path: str, max_bytes: int) -> bytes:
    # Opening a FIFO or a terminal must neither wait nor take hold of it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnreadableFile("it is no regular file")
        return file.read(max_bytes + 1)
