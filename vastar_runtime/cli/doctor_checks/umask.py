"""The umask that a daemon would inherit: one that is too strict keeps it from its own files."""

from __future__ import annotations

from collections.abc import Iterator

from .circumstances import Circumstances
from .finding import Finding, warning
from .processes import umask_of

# Of what a file's owner may.
_NEEDED = 0o700


def check_umask(seen: Circumstances) -> Iterator[Finding]:
    """Nothing where it leaves an owner what the owner needs; a daemon that runs has its own."""
    umask = umask_of("self")
    if umask is not None and umask & _NEEDED and not seen.is_running and not seen.apart:
        yield warning(
            "umask",
            f"{umask:04o} takes from an owner what the owner needs: a daemon that is started from here cannot open "
            "again the files that it makes (log, usage)",
            "before one is started",
            "umask 077",
        )
