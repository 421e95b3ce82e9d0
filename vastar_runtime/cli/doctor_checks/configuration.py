"""The configuration file: valid, in use, and in whose hands."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.config import DEFAULT_CONFIG_PATH, Examined
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import groups_of, is_within_reach, may, user_name
from .finding import Finding, counted, not_checked, ok, problem, warning

_MOST_MISTAKES = 3
# A file that is written while the daemon reads it has a time that may lie a moment after that.
_CLOCK_GRAIN_S = 0.01


def check_configuration(seen: Circumstances) -> Iterator[Finding]:
    """Which file, and what is wrong in it."""
    examined = seen.examined
    if examined is None:
        yield not_checked("configuration", seen.examine_problem)
        return
    # Mistakes of variables are told with the variables.
    mistakes = [mistake.text for mistake in examined.mistakes if not mistake.text.startswith("VASTAR_")]
    if examined.file is None and not mistakes:
        yield ok("configuration", f"no file ({DEFAULT_CONFIG_PATH} does not exist, or none is wanted): defaults hold")
        return
    for text in mistakes[:_MOST_MISTAKES]:
        yield problem("configuration", text, "correct it; this tells all mistakes", _check_command(seen, examined))
    if len(mistakes) > _MOST_MISTAKES:
        more = counted(len(mistakes) - _MOST_MISTAKES, "more mistake")
        yield problem("configuration", f"{more} in it", command=_check_command(seen, examined))
    if not mistakes and examined.file is not None:
        settings = counted(examined.settings_in_file, "setting")
        yield ok("configuration", f"{shown_path(examined.file)} is valid: {settings}")


def check_configuration_in_use(seen: Circumstances) -> Iterator[Finding]:
    """Whether the daemon goes by what the file says now."""
    name = "configuration in use"
    if seen.statistics is None:
        yield not_checked(name, seen.statistics_problem)
        return
    used, read_at_s = seen.statistics.get("config_file"), seen.statistics.get("configured_at_unix_s")
    here = None if seen.examined is None else seen.examined.file
    if used is not None and not isinstance(used, str):
        yield not_checked(name, "the daemon is of another version, and does not tell its file")
        return
    if seen.examined is not None and used != here:
        its = "no file" if used is None else shown_path(used)
        ours = "no file" if here is None else shown_path(here)
        yield warning(
            name,
            f"the daemon goes by {its}; with the variables and options given here it would be {ours}",
            "if the daemon's is the right one, name it with VASTAR_CONFIG; else start the daemon with this one",
            None if here is None else seen.command("restart", "--config", here),
        )
    if used is None:
        if here is None:
            yield ok(name, "the daemon goes by the defaults")
        return
    try:
        changed_at_s = os.stat(used).st_mtime
    except FileNotFoundError:
        yield warning(name, f"{shown_path(used)} is gone since the daemon read it", "put it back before a restart")
        return
    except OSError as error:
        yield not_checked(name, f"{shown_path(used)}: {error.strerror}")
        return
    if isinstance(read_at_s, int | float) and changed_at_s > read_at_s + _CLOCK_GRAIN_S:
        yield warning(
            name,
            f"{shown_path(used)} has changed since the daemon read it",
            "have it read again",
            seen.command("reload") if here == used else seen.command("reload", "--config", used),
        )
    elif used == here:
        yield ok(name, f"the daemon has read {shown_path(used)} as it is now")


def check_configuration_access(seen: Circumstances) -> Iterator[Finding]:
    """Who may read the file, and who may change it."""
    examined = seen.examined
    if examined is None or examined.file is None:
        return
    path, name = examined.file, "configuration file's mode"
    try:
        status = os.stat(path)
    except OSError as error:
        if not examined.mistakes:
            yield not_checked(name, f"{shown_path(path)}: {error.strerror}")
        return
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    found = f"{shown_path(path)} belongs to {user_name(status.st_uid)} and has mode {mode}"
    daemon_uid = seen.found.uid if seen.found is not None and seen.is_running else None
    if status.st_mode & stat.S_IWOTH and is_within_reach(path):
        yield problem(
            name,
            f"{found}: anybody may change where requests and secrets go",
            command=f"chmod o-w {shlex.quote(path)}",
        )
    elif daemon_uid is not None and not may(status, daemon_uid, groups_of(daemon_uid), 4):
        yield problem(
            name,
            f"{found}: the daemon, {user_name(daemon_uid)}, cannot read it again",
            "give it a group that the daemon's user is in, and mode 0640",
        )
    elif status.st_uid not in (0, os.geteuid()) and status.st_uid != daemon_uid:
        yield warning(name, f"{found}: that user may change where requests go", command=f"ls -l {shlex.quote(path)}")
    else:
        yield ok(name, found)


def _check_command(seen: Circumstances, examined: Examined) -> str:
    if seen.config_path is None and examined.file is not None and not seen.environ.get("VASTAR_CONFIG"):
        return "vastar-runtime config check"
    return seen.command("config check")
