"""Where the daemon keeps what outlives it, when the configuration names no place."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .quoting import quoted
from .settings import Settings

_USAGE_FILE = "usage.db"


def default_path(environ: Mapping[str, str]) -> str | None:
    """The file that usage is kept in: in the state directory of a systemd unit (``StateDirectory=``), else in the
    user's (XDG Base Directory Specification).

    Returns:
        An absolute path; None: the variables name no directory.
    """
    # systemd gives all of them with colons between them; the first is the unit's main one.
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if os.path.isabs(directory):
        return os.path.join(directory, _USAGE_FILE)
    state_home, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(state_home):  # a relative one is to be ignored, says the specification
        return os.path.join(state_home, "vastar", _USAGE_FILE)
    if os.path.isabs(home):
        return os.path.join(home, ".local", "state", "vastar", _USAGE_FILE)
    return None


def no_place(environ: Mapping[str, str]) -> str:
    """Why ``default_path`` finds none, the rest of a sentence."""
    relative = [
        f"{name} is relative: {quoted(value)}" for name in ("XDG_STATE_HOME", "HOME") if (value := environ.get(name))
    ]
    return " and ".join(relative) or "neither HOME nor XDG_STATE_HOME is set"


def not_kept(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Why a daemon with these settings and variables keeps no usage; None: it does."""
    if usage_path(settings, environ) is not None:
        return None
    return "[usage] file is none" if settings.usage.file is None else no_place(environ)


def forgetful_budgets(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """A line for whoever starts a daemon with these settings and variables, if its budgets will not outlive it and
    nobody has chosen that."""
    is_chosen = settings.usage.file is None
    if not settings.budgets or is_chosen or settings.shared_limits.backend is not None:
        return []
    reason = not_kept(settings, environ)
    told = f"Budgets will not survive a restart: usage is not kept ({reason}); name a file in [usage]"
    return [] if reason is None else [told]


def usage_path(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Where a daemon with these settings and variables keeps usage; None: nowhere."""
    file = settings.usage.file
    return default_path(environ) if file == "auto" else file
