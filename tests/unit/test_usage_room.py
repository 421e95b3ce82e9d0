"""A usage file that is as large as it may be."""

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from usage_books import HOUR, clock, counts, in_file

from vastar_runtime.metering import usage_file
from vastar_runtime.metering.batch import OTHER, Totals, UsageKey
from vastar_runtime.metering.store import UsageFileError, UsageStore

DAY = HOUR // 24 * 24
PAGES = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsageStore]:
    monkeypatch.setattr(usage_file, "MAX_FILE_BYTES", PAGES * 4096)
    store = UsageStore(str(path), unix_clock=clock)
    yield store
    store.close()


def test_a_file_that_is_full_goes_on_with_the_totals_of_all_tenants_and_days(store: UsageStore, path: Path) -> None:
    dice = random.Random(5)
    used: dict[tuple[str, int], int] = {}
    with capture_logs() as lines:
        for hour in range(DAY - 20 * 24, HOUR + 1):
            batch = {}
            for tenant in ("evil", "victim"):
                for number in range(10 if tenant == "evil" else 1):
                    tokens = dice.choice([dice.randrange(1000), 2**50, -dice.randrange(500)])
                    batch[UsageKey(hour, tenant, "o", f"{hour}-{number}-" + "x" * 100)] = counts(prompt=tokens)
                    used[tenant, hour // 24] = used.get((tenant, hour // 24), 0) + tokens
            store.add(batch)
    assert in_file(path, "min(hour), sum(requests)") == (DAY - 20 * 24, (20 * 24 + HOUR - DAY + 1) * 11)
    assert path.stat().st_size <= PAGES * 4096
    for tenant in ("evil", "victim"):
        for day in range(DAY // 24 - 20, DAY // 24 + 1):
            expected = sum(tokens for (who, when), tokens in used.items() if who == tenant and when >= day)
            assert store.totals(tenant, day * 24)[0].tokens == expected
    event = "the usage file is full: models and origins of the oldest days are counted together"
    assert [line["event"] for line in lines] == [event]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        models = connection.execute("SELECT DISTINCT model FROM usage WHERE hour = ?", (DAY - 20 * 24,)).fetchall()
        (newest,) = connection.execute("SELECT max(model) FROM usage WHERE hour = ?", (HOUR,)).fetchone()
    assert models == [(OTHER,)]
    assert newest.startswith(str(HOUR))


def test_where_all_days_are_summed_up_the_oldest_is_dropped_and_never_today(store: UsageStore, path: Path) -> None:
    def tenants(hour: int) -> dict[UsageKey, object]:
        return {UsageKey(hour, f"{hour}-{number}-" + "t" * 100, OTHER, OTHER): counts() for number in range(300)}

    with capture_logs() as lines:
        for day in range(10):
            store.add(tenants(DAY - (9 - day) * 24))  # type: ignore[arg-type]
    oldest, total = in_file(path, "min(hour), sum(requests)")
    assert DAY - 9 * 24 < int(str(oldest)) < DAY - 24
    assert int(str(total)) % 300 == 0
    assert {line["event"] for line in lines} == {"the usage file is full: its oldest day is dropped"}
    with pytest.raises(UsageFileError, match="the file has reached"):
        for hour in range(DAY, DAY + 24):
            store.add(tenants(hour))  # type: ignore[arg-type]
    assert in_file(path, f"sum(hour < {DAY}), min(hour)") == (0, DAY)
    assert store.totals("nobody", 0)[0] == Totals(0, 0)
