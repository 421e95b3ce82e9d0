"""Paths that somebody gives, from the root on."""

from __future__ import annotations

import os
import sys

from vastar_runtime.errors import GivenError

from .quoting import quoted


def absolute_path(path: str) -> str:
    """As ``os.path.abspath``.

    Raises:
        ValueError: it is relative, and nobody knows to what: a release was removed with this shell still in it; or the
            file system cannot be asked for it.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:  # one that a daemon told that has another locale
        raise ValueError(
            f"{quoted(path)} has characters that this locale ({sys.getfilesystemencoding()}) has no bytes for; "
            "set LC_ALL=C.UTF-8"
        ) from error
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise ValueError(
            f"{quoted(path)} is relative, and the working directory is gone ({error.strerror}); "
            "go to one that exists, or write the whole path"
        ) from error


def given_path(name: str, path: str) -> str:
    """The absolute path that an option or a variable names.

    Args:
        name: ``--file``, ``VASTAR_CONFIG``.

    Raises:
        GivenError: as for ``absolute_path``.
    """
    try:
        return absolute_path(path)
    except ValueError as error:
        raise GivenError(f"{name}: {error}") from error
