"""The configuration file: valid, in use, and in whose hands."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from vastar_runtime.cli.printing import counted
from vastar_runtime.config import DEFAULT_CONFIG_PATH, Examined
from vastar_runtime.config.permissions import has_list, may, may_change, user_name
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import is_within_reach
from .finding import Finding, not_checked, ok, problem, warning
from .permission import Closed, closed, myself
from .processes import groups_of_process
from .restarting import restart

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
    # But one that names no file says nothing about a key.
    of_file = [mistake for mistake in examined.mistakes if not (mistake.key and mistake.text.startswith("VASTAR_"))]
    if seen.apart and any(mistake.is_forbidden for mistake in of_file):
        yield not_checked(
            "configuration", f"{shown_path(examined.file or '')} may not be read by this user; {seen.apart}"
        )
        return
    if (shut := _closed(examined)) is not None:
        # Its text says no more than the system does.
        yield problem("configuration", *shut)
        of_file = [mistake for mistake in of_file if not mistake.is_forbidden]
        if not of_file:
            return
    mistakes = [mistake.text for mistake in of_file]
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
    if seen.apart:
        yield not_checked(name, seen.apart)
        return
    used, read_at_s = seen.statistics.get("config_file"), seen.statistics.get("configured_at_unix_s")
    here = None if seen.examined is None else seen.examined.file
    if used is not None and not isinstance(used, str):
        yield not_checked(name, "the daemon is of another version, and does not tell its file")
        return
    if seen.examined is not None and used != here and (used is None or seen.names_file or seen.is_ours):
        its = "no file" if used is None else shown_path(used)
        ours = "no file" if here is None else shown_path(here)
        is_wrong = any(not mistake.is_given for mistake in seen.examined.mistakes)
        start = f"{'correct this one, and ' if is_wrong else ''}start the daemon with this one"
        yield warning(
            name,
            f"the daemon goes by {its}; with the variables and options given here it would be {ours}",
            f"if the daemon's is the right one, name it with VASTAR_CONFIG; else {start}",
            None if here is None else restart(seen, config_file=here)[1],
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
    refused = seen.statistics.get("reload_refused")
    if isinstance(refused, str) and not (seen.examined is not None and used == here and not seen.examined.mistakes):
        yield warning(
            name,
            f"the daemon goes by {shown_path(used)} as it was before: the last reload was refused: {refused}",
            "correct that, and reload; this tells all mistakes",
            _check_command(seen, seen.examined) if seen.examined is not None else None,
        )
    elif isinstance(read_at_s, int | float) and changed_at_s > read_at_s + _CLOCK_GRAIN_S:
        yield warning(
            name,
            f"{shown_path(used)} has changed since the daemon read it",
            "have it read again",
            seen.command("reload") if here == used else seen.command("reload", "--config", used),
        )
    elif used == here:
        yield ok(name, f"the daemon has read {shown_path(used)} as it is now")
    elif not seen.names_file:  # another user's daemon, and no word here about another file
        yield ok(name, f"the daemon goes by {shown_path(used)}, as it is now")


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
    if not stat.S_ISREG(status.st_mode):
        return  # told as a mistake
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    found = f"{shown_path(path)} belongs to {user_name(status.st_uid)} and has mode {mode}"
    daemon_uid = seen.found.uid if seen.found is not None and seen.is_running and not seen.apart else None
    if status.st_mode & stat.S_IWOTH and is_within_reach(path):
        yield problem(
            name,
            f"{found}: anybody may change where requests and secrets go",
            "" if may_change(status) else "its owner, or root, can take that away",
            f"chmod o-w {shlex.quote(path)}" if may_change(status) else None,
        )
    elif any(mistake.is_forbidden for mistake in examined.mistakes):
        return  # told as a mistake
    elif daemon_uid is not None and (may_read := _daemon_may_read(seen, path, status, daemon_uid)) is not True:
        whose = f"{found}: the daemon, {user_name(daemon_uid)}"
        if may_read is None:
            yield not_checked(name, f"{whose}, may have groups that are not shown here, to read it with")
        elif status.st_uid == daemon_uid and may_change(status):
            yield problem(name, f"{whose}, cannot read it again", command=f"chmod u+r {shlex.quote(path)}")
        else:
            yield problem(
                name,
                f"{whose}, cannot read it again",
                "give it a group that the daemon has (Groups in /proc/PID/status), and mode 0640",
            )
    elif status.st_uid not in (0, os.geteuid()) and status.st_uid != daemon_uid:
        yield warning(name, f"{found}: that user may change where requests go", command=f"ls -l {shlex.quote(path)}")
    else:
        yield ok(name, found)


def _closed(examined: Examined) -> Closed | None:
    """None: this user may read the file, or nothing more can be told of why not."""
    if examined.file is None or not any(mistake.is_forbidden for mistake in examined.mistakes):
        return None
    advice = f"let {user_name(os.geteuid())} read it, with a group and mode 0640"
    return closed(examined.file, myself(), f"{advice}; or choose another with --config or VASTAR_CONFIG")


def _daemon_may_read(seen: Circumstances, path: str, status: os.stat_result, uid: int) -> bool | None:
    """None: that cannot be told."""
    groups = None if seen.pid is None else groups_of_process(seen.pid)
    if may(status, uid, groups or set(), 4):
        return True
    return None if groups is None or has_list(path) else False


def _check_command(seen: Circumstances, examined: Examined) -> str:
    if not seen.names_file and examined.file not in (None, DEFAULT_CONFIG_PATH):  # the daemon has told it
        return seen.command("config check", "--config", str(examined.file))
    return seen.command("config check")
