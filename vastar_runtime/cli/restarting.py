"""Which configuration file a daemon is started with again, where nobody names one: the one that it runs with."""

import os
from typing import Any

from vastar_runtime.errors import StartupError

from .asking import ask_runtime
from .probe import ANSWER_TIMEOUT_S, Found, State, obstacle
from .process import not_permitted

# There is no daemon, one of a kind that has no file, or one that is not ended anyway.
_WITHOUT_A_FILE = (State.NOT_RUNNING, State.LEGACY, State.FORBIDDEN)


def file_to_keep(found: Found) -> str | None:
    """The file that the daemon on a socket runs with; None: it has none, or there is no daemon to be ended.

    Only one of this user's is asked: anybody can put a socket into /tmp, and must not say what a daemon of somebody
    else listens to.

    Raises:
        StartupError: it has one, perhaps, and does not tell. Started without it, it would have no rules.
    """
    if found.state in _WITHOUT_A_FILE or found.pid is None or found.is_foreign:
        return None
    if found.owner and os.geteuid() != 0:
        raise StartupError(not_permitted(found.pid, found.uid))
    if found.state is not State.RUNNING:
        raise _untold(obstacle(found))
    if found.uid != os.geteuid():
        who = found.owner or "a user that cannot be seen from here"
        raise _untold(f"the daemon on {found.socket_path} (PID {found.pid}) belongs to {who}")
    try:
        told = ask_runtime(found.socket_path, "statistics", ANSWER_TIMEOUT_S, dict[str, Any])
    except StartupError as error:
        raise _untold(str(error)) from error
    if "config_file" not in told:
        raise _untold(f"the daemon on {found.socket_path} (PID {found.pid}) is of another version")
    file = told["config_file"]
    return file if isinstance(file, str) else None


def _untold(why: str) -> StartupError:
    return StartupError(
        f"{why}; which configuration file it runs with cannot be told, so nothing was stopped: give --config (or "
        f"--config {os.devnull} for none)"
    )
