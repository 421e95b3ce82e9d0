"""The SQLite file that usage is kept in: how it is made, opened and recognised, and what can be wrong with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from vastar_runtime.config.permissions import denied
from vastar_runtime.config.quoting import shown_path
from vastar_runtime.errors import StartupError
from vastar_runtime.telemetry.log import clean

from .rows import TABLE

SCHEMA_VERSION = 1
# In the file's header: ours, and no other program's database with a number in the same place ("vast").
APPLICATION_ID = 0x76617374

# Another process's batch takes milliseconds. Longer than that holds it who looks at the file with a tool of theirs.
BUSY_TIMEOUT_S = 1.0
# Who reads waits for nobody that writes; only for one that keeps the file to itself.
READ_BUSY_TIMEOUT_S = 0.5
_LOCK_LOOKS_S = 0.01
# Some ten million rows. A client that thinks of a new name each time must not fill the disk.
MAX_FILE_BYTES = 2 << 30
_PAGE_BYTES = 4096
# What the write-ahead log shrinks to after somebody has read for long.
_MAX_LOG_BYTES = 4 << 20
# The write-ahead log, and its index in shared memory: SQLite finds them by their names.
_SIDE_FILES = ("-wal", "-shm")

_ANOTHER = "choose another in [usage] file"
_REASONS = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; end what else has it open",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, and a new one is made",
    sqlite3.SQLITE_FULL: f"the disk is full, or the file has reached {MAX_FILE_BYTES >> 30} GiB; make room",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; move it away, or choose another in [usage] file",
    sqlite3.SQLITE_READONLY: "it may not be written; let this user write it, or choose another in [usage] file",
    sqlite3.SQLITE_IOERR: "its disk does not read or write (I/O error); see what is wrong with that",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; let this user use its directory, or choose another in [usage] file",
}

Place = Mapping[str, tuple[int, int]]
"""Device and inode of the file and of what lies beside it, by the ends of their names; "" is the file."""


class UsageFileError(StartupError):
    """The file of usage cannot be used. ``str()`` is one line: which file, what is wrong, and what to do.

    Args:
        path: of the file.
        reason: the rest of a sentence.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the usage file {shown_path(path)} cannot be used: {reason}")
        self._path = path
        self._reason = reason

    def named_by(self, option: str) -> UsageFileError:
        """The same, for whoever chose the file with an option."""
        return UsageFileError(self._path, self._reason.replace(_ANOTHER, f"choose another with {option}"))


@contextlib.contextmanager
def faults(path: str) -> Iterator[None]:
    """Whatever goes wrong with this file in the block is a UsageFileError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        words = f"{clean(str(error))}; move it away, or {_ANOTHER}"
        raise fault(path, _unreadable(path, code) or _REASONS.get(code, words)) from error
    except UnicodeDecodeError as error:  # in a name, or in SQLite's message about what it found
        raise fault(path, _REASONS[sqlite3.SQLITE_CORRUPT]) from error
    except PermissionError as error:
        what, way_out = denied(path, os.R_OK | os.W_OK)
        raise fault(path, f"{error.strerror}: {what}; {way_out}, or {_ANOTHER}") from error
    except OSError as error:
        raise fault(path, f"{error.strerror or error}; {_ANOTHER}") from error


def fault(path: str, reason: str) -> UsageFileError:
    """The error with this reason, which is the rest of a sentence."""
    return UsageFileError(path, reason)


def _unreadable(path: str, code: int) -> str | None:
    """Why SQLite cannot open it, if that is for the mode of the file, or of what lies beside it, as it is of one."""
    if code != sqlite3.SQLITE_CANTOPEN:
        return None
    for end in ("", *_SIDE_FILES):
        name = os.path.realpath(path) + end
        if os.path.isfile(name) and not os.access(name, os.R_OK | os.W_OK, effective_ids=True):
            what, way_out = denied(name, os.R_OK | os.W_OK)
            beside = f" for {shown_path(name)}" if end else ""
            return f"it may not be opened{beside}: {what}; {way_out}, or {_ANOTHER}"
    return None


def open_to_write(path: str, former: Place | None) -> sqlite3.Connection:
    """The file, made if there is none, ready for batches of several processes at a time. To be called in ``faults``.

    Args:
        path: absolute.
        former: where the file was that this process had open at this path before; None: it had none.

    Raises:
        UsageFileError, sqlite3.Error, OSError: that cannot be.
    """
    path = os.path.realpath(path)  # where SQLite has the side files
    directory = os.path.dirname(path)
    _make_directory(directory)
    with _lock(directory, path):
        _make_file(path, former)
        connection = _connect(path, "mode=rw", BUSY_TIMEOUT_S)
        try:
            if not is_ours(connection, path):
                _make_table(connection)
            # Readers and a writer do not wait for each other. What was committed outlives the process at once, and the
            # machine's loss of power from the next checkpoint on: no fsync for each batch.
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_MAX_LOG_BYTES}").fetchall()
            connection.execute(f"PRAGMA max_page_count = {MAX_FILE_BYTES // _PAGE_BYTES}").fetchall()
            connection.execute("SELECT 1 FROM usage LIMIT 1").fetchall()  # from now on the side files are there
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: str, *, is_at_rest: bool) -> sqlite3.Connection | None:
    """The file as it is; None: there is none, or nothing is in it yet. To be called in ``faults``.

    Args:
        is_at_rest: ``resting`` says so: it is opened as one that nobody writes, which leaves nothing beside it and
            needs no directory that can be written.

    Raises:
        UsageFileError, sqlite3.Error, OSError: that cannot be.
    """
    try:
        _check_kind(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    connection = _connect(path, "mode=ro&immutable=1" if is_at_rest else "mode=ro", READ_BUSY_TIMEOUT_S)
    try:
        if is_ours(connection, path):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def resting(path: str) -> tuple[int, ...] | None:
    """What tells this state of the file from any later one, while nobody has it open; None: somebody may.

    Raises:
        OSError: that cannot be seen.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if os.path.lexists(os.path.realpath(path) + _SIDE_FILES[0]):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def is_ours(connection: sqlite3.Connection, path: str) -> bool:
    """Whether usage can be in it; False: it is empty.

    Raises:
        UsageFileError: it belongs to another program, or to a newer version of this one.
    """
    ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if application_id != APPLICATION_ID:
        if application_id or version or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
            raise fault(path, "it is the database of another program; choose another in [usage] file")
        return False
    if version != SCHEMA_VERSION:
        raise fault(
            path,
            f"its schema is {version}, and this version knows {SCHEMA_VERSION}; "
            f"use the version that made it, or {_ANOTHER}",
        )
    return True


def place_of(path: str) -> Place:
    """Where the file is now, and what lies beside it; without those that are not there.

    Raises:
        OSError: that cannot be seen.
    """
    path = os.path.realpath(path)
    place = {}
    for end in ("", *_SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(path + end)
            place[end] = (found.st_dev, found.st_ino)
    return place


def _connect(path: str, access: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{access}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _make_table(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(TABLE)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _make_directory(directory: str) -> None:
    """As os.makedirs, with every directory that it makes for its owner alone (XDG)."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for name in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process made it; or a file is there, which is seen next
            os.mkdir(name, 0o700)


@contextlib.contextmanager
def _lock(directory: str, path: str) -> Iterator[None]:
    """One process at a time looks for a file and makes one; the lock is the directory's, and leaves nothing behind."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise fault(path, "another process keeps its directory locked; end that one") from None
                time.sleep(_LOCK_LOOKS_S)
            except OSError:  # a file system without such locks: two that begin at once may have to try again
                break
        yield
    finally:
        os.close(fd)


def _make_file(path: str, former: Place | None) -> None:
    """An empty file, if there is none. The side files of one that has gone must not be taken for this one's: processes
    that have that one open would share them, and what is in its log would come into this one."""
    place = place_of(path)
    # Those of the very file that is there hold what is not in it yet, whatever went wrong before.
    gone = former if former is not None and former.get("") != place.get("") else {}
    for end in _SIDE_FILES:
        if end in place and ("" not in place or place[end] == gone.get(end)):
            os.unlink(path + end)
    if "" in place:
        _check_kind(path)
        return
    # Never opened besides SQLite when there is one: closing it would give up SQLite's own locks (fcntl(2)).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _check_kind(path: str) -> None:
    """SQLite opens whatever is there, and waits for what a pipe's other end has to say."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise fault(path, f"it is {what}; {_ANOTHER}")
