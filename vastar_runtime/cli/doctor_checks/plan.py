"""All checks, in their order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from .bounded import Look, TookTooLong
from .circumstances import Circumstances
from .configuration import check_configuration, check_configuration_access, check_configuration_in_use
from .credential_sources import check_credential_sources
from .daemon import check_daemon, check_daemon_statistics
from .daemon_environment import check_daemon_environment
from .finding import Finding, not_checked
from .kept_files import check_log, check_open_files, check_usage
from .other_daemons import check_other_daemons
from .proxies import check_proxies, check_proxies_answer
from .python import check_packages, check_python
from .socket_access import check_socket_access
from .socket_place import check_socket, check_socket_directory, check_socket_path
from .tcp import check_tcp
from .tls import check_clock, check_trust_store_here
from .variables import check_variables

Check = Callable[[Circumstances], Iterable[Finding]]

# Of the checks of one family together; all families look at the same time.
CHECK_TIMEOUT_S = 5.0


class Family(NamedTuple):
    """Checks under one heading."""

    title: str
    checks: tuple[Check, ...]


FAMILIES = (
    Family("Python", (check_python, check_packages)),
    Family("Variables", (check_variables,)),
    Family(
        "Configuration",
        (check_configuration, check_configuration_in_use, check_configuration_access, check_credential_sources),
    ),
    Family("Socket", (check_socket_path, check_socket_directory, check_socket, check_socket_access, check_tcp)),
    Family("Daemon", (check_daemon, check_other_daemons, check_daemon_statistics, check_daemon_environment)),
    Family("Files", (check_log, check_usage, check_open_files)),
    Family("TLS", (check_trust_store_here, check_clock)),
    Family("Proxies", (check_proxies, check_proxies_answer)),
)


class Report(NamedTuple):
    """What the checks of one family say."""

    title: str
    findings: list[Finding]


def examine(seen: Circumstances, families: Iterable[Family] = FAMILIES) -> Iterator[Report]:
    """Each family, as soon as it and those before it are done. No check's failure stops another."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    begun = [
        (family.title, [(check, Look(partial(_findings, check, seen))) for check in family.checks])
        for family in families
    ]
    for title, looks in begun:
        yield Report(title, [finding for check, look in looks for finding in result(_name(check), look, deadline)])


def result(name: str, look: Look[list[Finding]], deadline: float) -> list[Finding]:
    """What a check says, or why it says nothing.

    Args:
        deadline: of ``time.monotonic``.
    """
    try:
        return look.result(deadline - time.monotonic())
    except TookTooLong as error:
        return [not_checked(name, str(error))]
    except Exception as error:  # a mistake of ours in one check must not hide what the others have found
        return [not_checked(name, f"the check itself failed ({type(error).__name__}: {error}); please report that")]


def _findings(check: Check, seen: Circumstances) -> list[Finding]:
    return list(check(seen))


def _name(check: Check) -> str:
    return getattr(check, "__name__", "check").removeprefix("check_").replace("_", " ")
