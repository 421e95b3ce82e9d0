"""Where usage is kept when the configuration names no place."""

import pytest

from vastar_runtime.config.state import default_path


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
