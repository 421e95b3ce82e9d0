"""A log of usage over a disk that a test can hold up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from usage_disk import Disk, now

from vastar_runtime.metering.ledger import UsageLog

REQUESTS = "sum(requests)"
GROUPS = "count(*), sum(requests)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def disk(path: Path) -> Iterator[Disk]:
    disk = Disk(str(path))
    yield disk
    disk.let_go.set()
    disk.close()


@pytest.fixture
def log(disk: Disk) -> UsageLog:
    return UsageLog(disk, now)


async def happened(event: threading.Event) -> None:
    """It has happened in another thread."""
    assert await trio.to_thread.run_sync(event.wait, 30)
    event.clear()
