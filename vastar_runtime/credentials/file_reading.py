"""Reading a secret from a file. Whatever lies at its path, reading it ends, or hangs with its disk in a thread."""

from __future__ import annotations

import os
import stat
import time
from typing import NamedTuple

from vastar_runtime.regular_file import NotRegular, read_regular_file

from .errors import Unusable
from .secret import MAX_SECRET_CHARACTERS, MAX_SOURCE_BYTES, Secret, secret_in


class Signature(NamedTuple):
    """What tells a file, and one state of it, from another."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Reading(NamedTuple):
    """What was found at a path.

    Attributes:
        secret: None: nothing that can be used.
        problem: why that is so; goes on after the path.
        signature: of the file that was read; None without a secret.
        age_s: how long before that it was written last; below 0 where the clocks differ.
    """

    secret: Secret | None
    problem: str | None = None
    signature: Signature | None = None
    age_s: float = 0.0


def look(path: str, known: Signature | None) -> Reading | None:
    """What is there now; links are followed.

    Args:
        known: what was read before; None: it is read in any case.

    Returns:
        None: it is what is known.
    """
    try:
        if known is not None and _signature(os.stat(path)) == known:
            return None
        return _read(path)
    except Unusable as error:
        return Reading(None, str(error))
    except NotRegular as error:
        return Reading(None, "is a directory" if error.is_directory else "is no regular file")
    except BlockingIOError:
        return Reading(None, "has nothing to be read at the moment")
    except FileNotFoundError:
        return Reading(None, "is missing")
    except PermissionError as error:
        return Reading(None, _forbidden(path, error))
    except OSError as error:
        return Reading(None, f"cannot be read: {error.strerror or error}")


def _read(path: str) -> Reading:
    file = read_regular_file(path, MAX_SOURCE_BYTES)
    if file.is_cut:
        raise Unusable(f"is larger than {MAX_SECRET_CHARACTERS >> 10} KiB")
    if file.was_written_to:
        raise Unusable("was written to while it was read")
    age_s = (time.time_ns() - file.status.st_mtime_ns) / 1e9
    return Reading(secret_in(file.data), signature=_signature(file.status), age_s=age_s)


def _forbidden(path: str, error: PermissionError) -> str:
    """Whose file it is, and who may not read it: whoever mends that need not look for it."""
    found = f"cannot be read by the daemon (uid {os.geteuid()}): {error.strerror or error}"
    try:
        status = os.stat(path)
    except OSError:
        return f"{found}; a directory above it is closed to that user"
    return f"{found}; its owner is uid {status.st_uid}, its mode {stat.S_IMODE(status.st_mode):04o}"


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
