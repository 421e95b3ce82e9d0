"""Descriptors 0, 1 and 2, which may be closed where a program is started (``>&-``, a supervisor without them)."""

import os

from vastar_runtime.errors import StartupError

STANDARD_DESCRIPTORS = range(3)
FIRST_OTHER = len(STANDARD_DESCRIPTORS)


def fill_standard_descriptors() -> None:
    """Open ``/dev/null`` on those that are closed, before anything else is opened.

    The system gives the lowest free number: a client's socket would be number 2, and whatever is written to standard
    error would go to that client. ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` stay None where they are. Children
    inherit what is opened here, so that none of theirs is closed either.

    Raises:
        StartupError: ``/dev/null`` cannot be opened.
    """
    for fd in STANDARD_DESCRIPTORS:
        if _is_open(fd):
            continue
        try:
            opened = os.open(os.devnull, os.O_RDWR)
        except OSError as error:
            raise StartupError(f"cannot open {os.devnull} in place of descriptor {fd}: {error.strerror}") from error
        assert opened == fd, "the lowest that is free"
        os.set_inheritable(fd, True)


def _is_open(fd: int) -> bool:
    try:
        os.get_inheritable(fd)
    except OSError:  # EBADF is all that it can say
        return False
    return True
