"""Whether SQLite finds the usage file sound: looked through read-only, in a bounded time."""

from __future__ import annotations

import os
import time

# A second or so from a disk. A larger one is left alone: it would only be begun.
MAX_LOOKED_THROUGH_BYTES = 256 << 20
LOOK_S = 3.0
_STEPS_PER_LOOK = 10_000  # of SQLite's machine: some tenths of a millisecond


def damage_in(path: str) -> str | None:
    """What is wrong inside, one line: which file, and what to do; None: nothing, or it takes too long to find that.

    Raises:
        OSError: it cannot be seen.
    """
    import sqlite3  # a Python may lack SQLite

    from vastar_runtime.metering.reading import read_file
    from vastar_runtime.metering.usage_file import UsageFileError, fault

    if os.stat(path).st_size > MAX_LOOKED_THROUGH_BYTES:
        return None
    deadline = time.monotonic() + LOOK_S

    def look_through(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_PER_LOOK)
        connection.text_factory = bytes
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
        else:
            if found != [(b"ok",)]:
                raise fault(path, "it is damaged; move it away, and a new one is made")

    try:
        read_file(path, look_through)
    except UsageFileError as error:
        return str(error)
    return None
