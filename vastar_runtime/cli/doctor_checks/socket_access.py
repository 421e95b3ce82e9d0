"""Whether those who are meant to use the daemon can open its socket."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from grp import getgrgid
from typing import NamedTuple

from vastar_runtime.config import Settings, missing_group
from vastar_runtime.config.permissions import closed_directory, has_list, may, user_name
from vastar_runtime.config.quoting import shown_path

from .circumstances import Circumstances
from .files import group_name, groups_of
from .finding import Finding, listed, not_checked, ok, problem, warning
from .restarting import restart

_TO_CONNECT = 2  # unix(7): permission to write
_MOST_USERS = 50


def check_socket_access(seen: Circumstances) -> Iterator[Finding]:
    """``listen.socket_mode``, ``listen.socket_group`` and ``[[access]]`` against each other and the socket."""
    listen, name = seen.settings.listen, "socket's mode"
    sources = {} if seen.examined is None else seen.examined.sources
    if not seen.apart and (missing := missing_group(listen, sources)) is not None:
        yield problem(
            "socket's group",
            f"{missing}: no daemon starts with it",
            "name a group that there is, or have root make it: groupadd --system NAME",
        )
    if not seen.is_running and not seen.apart and listen.socket_group is not None and not listen.socket_mode & 0o020:
        yield problem(
            name,
            f"listen.socket_group is {listen.socket_group!r}, and listen.socket_mode {listen.socket_mode:04o} lets no "
            "group in",
            'set socket_mode = "0660" in [listen]',
        )
        return
    if seen.socket is None or not seen.is_running:
        return
    try:
        status = os.stat(seen.socket)
    except OSError as error:
        yield not_checked(name, f"{shown_path(seen.socket)}: {error.strerror}")
        return
    mode = stat.S_IMODE(status.st_mode)
    found = f"{user_name(status.st_uid)}, group {group_name(status.st_gid)}, mode {mode:04o}"
    if seen.apart:
        yield ok(name, found)
        return
    every = [
        *_users_shut_out(seen.settings, seen.socket, status),
        *_groups_shut_out(seen.settings, seen.socket, status),
    ]
    shut_out = [each.who for each in every if not each.may_have_group]
    if shut_out:
        advice, command = _restart_for(seen)
        yield problem(
            name,
            f"{found}: [[access]] allows {listed(shut_out)}, and the socket does not let them in",
            'set socket_group and socket_mode = "0660" in [listen], with a group that they are in'
            + (f"; {advice}" if advice else ", or"),
            command,
        )
    elif every:
        yield not_checked(
            name,
            f"{found}: [[access]] allows {listed(each.who for each in every)}, whom it lets in only with a group that "
            "the user database does not give them (SupplementaryGroups= of their units may)",
        )
    elif listen.socket_group is not None and not mode & stat.S_IWGRP:
        yield problem(
            name, f"{found}: no group is let in, and listen.socket_group is set", 'set socket_mode = "0660" in [listen]'
        )
    elif mode & stat.S_IWOTH and not seen.settings.access:
        yield warning(
            name,
            f"{found}: every user of this machine may send requests, and no [[access]] says who may what",
            "let a group in instead (--socket-mode 0660 --socket-group GROUP), or add [[access]]",
        )
    else:
        yield ok(name, found)


class _ShutOut(NamedTuple):
    """Somebody who is not let in, as far as the user database tells. ``may_have_group``: a process may have groups of
    which that does not tell, from systemd or a container, and one of them would let it in."""

    who: str
    may_have_group: bool


def _users_shut_out(settings: Settings, path: str, status: os.stat_result) -> Iterator[_ShutOut]:
    uids = dict.fromkeys(int(user) for rule in settings.access for user in rule.users)
    for uid in list(uids)[:_MOST_USERS]:
        groups = groups_of(uid)
        if not may(status, uid, groups, _TO_CONNECT):
            yield _ShutOut(user_name(uid), bool(status.st_mode & stat.S_IWGRP) or has_list(path))
        elif (directory := closed_directory(path, uid, groups)) is not None:
            who = f"{user_name(uid)} (who may not search {shown_path(directory)})"
            yield _ShutOut(who, bool(os.stat(directory).st_mode & stat.S_IXGRP) or has_list(directory))


def _groups_shut_out(settings: Settings, path: str, status: os.stat_result) -> Iterator[_ShutOut]:
    gids = dict.fromkeys(int(group) for rule in settings.access for group in rule.groups)
    for gid in list(gids)[:_MOST_USERS]:
        is_in = status.st_mode & stat.S_IWOTH or (gid == status.st_gid and status.st_mode & stat.S_IWGRP)
        if not is_in and not _members_are_in(gid, status):
            yield _ShutOut(f"group {group_name(gid)}", bool(status.st_mode & stat.S_IWGRP) or has_list(path))


def _members_are_in(gid: int, status: os.stat_result) -> bool:
    """Whether the group has members, and all of them may connect for another reason."""
    try:
        members = getgrgid(gid).gr_mem
    except KeyError:
        return False
    return bool(members) and status.st_mode & stat.S_IWGRP != 0 and set(members) <= set(getgrgid(status.st_gid).gr_mem)


def _restart_for(seen: Circumstances) -> tuple[str, str | None]:
    """With the group that rules name, where they name one."""
    gids = {group for rule in seen.settings.access for group in rule.groups}
    users = {user for rule in seen.settings.access for user in rule.users}
    if len(gids) != 1 or users:
        return "then start it anew", None
    return restart(seen, "--socket-mode", "0660", "--socket-group", group_name(int(*gids)))
