"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator

import pytest

_STATE_HOME = pytest.StashKey[str]()
_MEASURED_PROCESS = "COVERAGE_PROCESS_CONFIG"  # coverage's own: a Python that has it measures itself


def pytest_configure(config: pytest.Config) -> None:
    """Daemons under test keep what outlives them in no directory of this user's."""
    config.addinivalue_line("markers", "unmeasured: its coverage, and that of its processes, is not measured")
    path = tempfile.mkdtemp(prefix="vastar-state-")
    config.stash[_STATE_HOME] = path
    os.environ["XDG_STATE_HOME"] = path
    os.environ.pop("STATE_DIRECTORY", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_STATE_HOME], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is marked unmeasured takes half the time, and its processes start in two thirds of it.

    Marked are tests that do the same things very often or start many processes, and reach hardly a line that others do
    not; and those in which a signal unwinds a program: one that comes while coverage takes its lock leaves it locked,
    and the program hangs. pytest-cov's own mark, no_cover, pauses nothing in workers of pytest-xdist, nor in processes
    that tests start.
    """
    trace, measured = sys.gettrace(), os.environ.get(_MEASURED_PROCESS)
    if item.get_closest_marker("unmeasured") is None:
        return (yield)
    assert "running" not in getattr(item, "fixturenames", ()), "the daemon that tests share is measured"
    sys.settrace(None)
    os.environ.pop(_MEASURED_PROCESS, None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)
        if measured is not None:
            os.environ[_MEASURED_PROCESS] = measured
