"""Where usage is kept when the configuration names no place."""

import pytest

from vastar_runtime.config import Budget, Settings, SharedLimits, Usage
from vastar_runtime.config.state import default_path, forgetful_budgets, not_kept


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/vastar", "HOME": "/root"}, "/var/lib/vastar/usage.db"),
        ({"STATE_DIRECTORY": "/var/lib/vastar:/var/lib/other"}, "/var/lib/vastar/usage.db"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/vastar/usage.db"),
        ({"STATE_DIRECTORY": "state", "HOME": "/h"}, "/h/.local/state/vastar/usage.db"),
        ({"XDG_STATE_HOME": "state", "HOME": "/h"}, "/h/.local/state/vastar/usage.db"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/vastar/usage.db"),
        ({"HOME": ""}, None),
        ({"HOME": "h", "XDG_STATE_HOME": "state", "STATE_DIRECTORY": ":/b"}, None),
        ({}, None),
    ],
)
def test_the_first_directory_that_is_absolute_is_the_place(environ: dict[str, str], path: str | None) -> None:
    assert default_path(environ) == path


def test_budgets_that_end_with_the_daemon_are_told_where_nobody_chose_that() -> None:
    monthly = (Budget(name="monthly", tokens=7),)
    told = (
        "Budgets will not survive a restart: usage is not kept (neither HOME nor XDG_STATE_HOME is set); "
        "name a file in [usage]"
    )
    assert forgetful_budgets(Settings(budgets=monthly), {}) == [told]
    assert forgetful_budgets(Settings(), {}) == []
    assert forgetful_budgets(Settings(budgets=monthly), {"HOME": "/h"}) == []
    nowhere = Settings(budgets=monthly, usage=Usage(file=None))
    assert (forgetful_budgets(nowhere, {}), not_kept(nowhere, {})) == ([], "[usage] file is none")
    in_redis = SharedLimits(backend="redis://localhost:6379/0")
    assert forgetful_budgets(Settings(budgets=monthly, shared_limits=in_redis), {}) == []
