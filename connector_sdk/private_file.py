"""Small files that users keep: read within bounds, written whole and for their owner alone."""

from __future__ import annotations

import contextlib
import os
import stat

from .errors import ConnectorException
from .wire.messages import ErrorClass

_MAX_PATH_CHARACTERS = 400


def shown_path(path: str) -> str:
    """A path in a message: in one line, and never long."""
    short = path if len(path) <= _MAX_PATH_CHARACTERS else f"{path[:_MAX_PATH_CHARACTERS]}…"
    return short if short.isprintable() else repr(short)


def read_text(path: str, what: str, max_bytes: int) -> str:
    """What a file holds.

    Args:
        what: it is, for messages.

    Raises:
        ConnectorException: INVALID_REQUEST: it cannot be read, is no regular file, is larger, or is not UTF-8.
    """
    try:
        # A pipe would make who opens it wait for somebody to write.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _cannot("read", what, path, "it is no regular file")
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _cannot("read", what, path, _reason(error)) from error
    if len(data) > max_bytes:
        raise _cannot("read", what, path, f"it has more than {max_bytes:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _cannot("read", what, path, f"it is not UTF-8 (byte {error.start})") from error


def write_text(path: str, what: str, text: str) -> None:
    """Put a file there, mode 0600, in place of one that is there; nobody ever sees half of it.

    Raises:
        ConnectorException: INVALID_REQUEST, it cannot be written, or what is there is no regular file; what was there
            before still is.
    """
    try:
        _check_replaceable(path, what)
        temporary = f"{path}.{os.getpid()}-{os.urandom(6).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise _cannot("write", what, path, _reason(error)) from error
    try:
        with open(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # what failed first is what is told
            os.unlink(temporary)
        if isinstance(error, (OSError, ValueError)):
            raise _cannot("write", what, path, _reason(error)) from error
        raise


def _check_replaceable(path: str, what: str) -> None:
    """A device or a pipe would be gone, and so would a link; following it may lead to where its owner wants us to."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise _cannot("write", what, path, "it is a symbolic link; name the file that it leads to")
        if not stat.S_ISREG(mode):
            raise _cannot("write", what, path, "it is no regular file")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _cannot(verb: str, what: str, path: str, reason: str) -> ConnectorException:
    return ConnectorException(f"cannot {verb} the {what} {shown_path(path)}: {reason}", ErrorClass.INVALID_REQUEST)
