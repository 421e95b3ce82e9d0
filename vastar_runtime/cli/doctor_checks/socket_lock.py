"""What lies where a daemon that starts makes its lock, beside the socket."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config.permissions import kind, user_name
from vastar_runtime.config.quoting import shown_path

from .finding import Finding, problem

_OTHER_PATH = "choose another path with --socket or VASTAR_SOCKET_PATH"


def lock_in_the_way(path: str) -> Iterator[Finding]:
    """Anybody can put something there beforehand, where everybody may make files."""
    lock = f"{path}.lock"
    try:
        status = os.lstat(lock)
        directory = os.stat(os.path.dirname(lock))
    except OSError:  # there is none; what is wrong with the directory is told with that
        return
    if stat.S_ISREG(status.st_mode) and not _is_kept_from_us(lock, status, directory):
        return
    whose = user_name(status.st_uid)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o600 != 0o600:
        yield problem(
            "socket's lock",
            f"{shown_path(lock)} is this user's own, and its mode {stat.S_IMODE(status.st_mode):04o} keeps its owner "
            "out: no daemon starts there",
            "",
            f"chmod u+rw {shlex.quote(lock)}",
        )
        return
    # Who may write a directory may remove what is in it, which a sticky one leaves to the owners.
    is_removable = os.access(os.path.dirname(lock), os.W_OK | os.X_OK) and (
        not directory.st_mode & stat.S_ISVTX or os.geteuid() in (0, status.st_uid, directory.st_uid)
    )
    yield problem(
        "socket's lock",
        f"{shown_path(lock)} is {kind(status.st_mode)} of {whose}, which this user cannot lock: no daemon starts there",
        f"{_OTHER_PATH}; or {'see what it is, and move it away' if is_removable else f'{whose} can remove it'}",
        f"ls -ld {shlex.quote(lock)}" if is_removable else None,
    )


def _is_kept_from_us(path: str, status: os.stat_result, directory: os.stat_result) -> bool:
    """Whether this user may not open a file to write, be it by the file's mode or since it lies where everybody may
    make files and is somebody else's (fs.protected_regular, proc_sys_fs(5))."""
    if not os.access(path, os.R_OK | os.W_OK):
        return True
    is_for_all = directory.st_mode & stat.S_ISVTX and directory.st_mode & stat.S_IWOTH
    is_strange = status.st_uid not in (os.geteuid(), directory.st_uid)
    return bool(is_for_all and is_strange and _is_protected())


def _is_protected() -> bool:
    try:
        with open("/proc/sys/fs/protected_regular", encoding="ascii") as file:
            return file.read().strip() not in ("", "0")
    except OSError:
        return False
