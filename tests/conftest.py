"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

_STATE_HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Daemons under test keep what outlives them in no directory of this user's."""
    path = tempfile.mkdtemp(prefix="vastar-state-")
    config.stash[_STATE_HOME] = path
    os.environ["XDG_STATE_HOME"] = path
    os.environ.pop("STATE_DIRECTORY", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_STATE_HOME], ignore_errors=True)
