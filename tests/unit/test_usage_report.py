"""Usage read back: groups, their order, and what is read while others write."""

import os
import sqlite3
from pathlib import Path

import pytest
from usage_books import HOUR, batch, clock, counts

from vastar_runtime.metering import reading, report
from vastar_runtime.metering.batch import UsageKey
from vastar_runtime.metering.report import By, Group, Report, read_report
from vastar_runtime.metering.store import UsageFileError, UsageStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def read(path: Path, by: By = By.MODEL, *, since: int = 0, tenant: str | None = None, most: int = 50) -> Report:
    found = read_report(str(path), since_hour=since, by=by, tenant_id=tenant, most_groups=most)
    assert found is not None
    return found


def write(path: Path, *batches: dict[UsageKey, object]) -> None:
    store = UsageStore(str(path), keep_days=10_000, unix_clock=clock)
    for each in batches:
        store.add(each)  # type: ignore[arg-type]
    store.close()


def names(found: Report) -> list[str]:
    return [group.name for group in found.groups]


def test_models_come_by_cost_and_then_by_tokens_and_then_by_name(path: Path) -> None:
    write(
        path,
        batch("cheap", prompt=1000, cost_nano=1),
        batch("dear", prompt=1, cost_nano=2),
        batch("b", "a", prompt=5),
        batch("c", prompt=3, completion=3),
    )
    assert names(read(path)) == ["dear", "cheap", "c", "a", "b"]


def test_groups_sum_up_every_hour_origin_and_tenant(path: Path) -> None:
    for hour, tenant, origin in ((HOUR, "t", "o"), (HOUR - 1, "t", "o"), (HOUR, "u", "o"), (HOUR, "t", "p")):
        made = counts(2, prompt=10, completion=5, cost_nano=7, estimated=1, cached=4)
        write(path, {UsageKey(hour, tenant, origin, "m"): made})
    wanted = Group("m", 8, 4, 40, 16, 20, 28)
    assert read(path) == Report((wanted,), 0, Group("total", 8, 4, 40, 16, 20, 28))
    assert read(path, tenant="u").total == Group("total", 2, 1, 10, 4, 5, 7)
    assert read(path, since=HOUR).total.requests == 6
    assert names(read(path, By.TENANT)) == ["t", "u"]


def test_days_are_those_of_utc_in_their_order_and_the_last_ones_are_shown(path: Path) -> None:
    midnight = HOUR - HOUR % 24
    for hour in (midnight - 1, midnight, midnight + 23, midnight + 24, 0):
        write(path, batch("m", hour=hour))
    assert names(read(path, By.DAY)) == ["1970-01-01", "2026-07-31", "2026-08-01", "2026-08-02"]
    last = read(path, By.DAY, most=2)
    assert (names(last), last.more, last.total.requests) == (["2026-08-01", "2026-08-02"], 2, 5)


def test_a_day_beyond_the_calendar_is_its_last(path: Path) -> None:
    write(path, batch("m", hour=2**63 - 1))
    assert names(read(path, By.DAY)) == ["9999-12-31"]


def test_groups_that_are_too_many_are_counted_and_in_the_total(path: Path) -> None:
    write(path, {UsageKey(HOUR, "t", "o", f"m{n}"): counts(prompt=n) for n in range(100)})
    found = read(path, most=3)
    assert (names(found), found.more, found.total.prompt_tokens) == (["m99", "m98", "m97"], 97, 4950)


def test_sums_beyond_64_bits_are_exact(path: Path) -> None:
    write(path, batch("a", "b", "c", prompt=2**63 - 1, cost_nano=2**63 - 1))
    total = read(path, By.TENANT).total
    assert (total.prompt_tokens, total.cost_nano) == (3 * (2**63 - 1), 3 * (2**63 - 1))


def test_no_file_is_no_report_and_an_empty_one_an_empty_report(path: Path) -> None:
    assert read_report(str(path), since_hour=0, by=By.MODEL, tenant_id=None, most_groups=1) is None
    path.touch()
    assert read(path) == Report()
    path.unlink()
    write(path, {})
    assert read(path) == Report()


def test_a_file_is_read_while_it_is_written_and_nothing_is_left_beside_one_that_is_not(path: Path) -> None:
    store = UsageStore(str(path), unix_clock=clock)
    store.add(batch("a"))
    assert read(path).total.requests == 1
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM usage")
    assert read(path).total.requests == 1  # neither waits for the other, nor sees half of it
    writer.execute("ROLLBACK")
    writer.close()
    store.add(batch("a"))
    assert read(path).total.requests == 2
    store.close()
    assert read(path).total.requests == 2
    assert os.listdir(path.parent) == ["usage.db"]


def test_a_file_that_begins_to_be_written_while_it_is_read_is_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody had open was opened without locks, and may have been found half written."""
    write(path, batch("a"))
    store = UsageStore(str(path), unix_clock=clock)
    open_to_read = reading.open_to_read

    def interfered(path: str, *, is_at_rest: bool) -> sqlite3.Connection | None:
        if is_at_rest:
            store.add(batch("a"))
        return open_to_read(path, is_at_rest=is_at_rest)

    monkeypatch.setattr(reading, "open_to_read", interfered)
    assert read(path).total.requests == 2
    store.close()


def test_a_file_that_keeps_the_reader_busy_for_ever_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {})
    columns = "'t' AS tenant, 'm' AS model, 1 AS requests, 1 AS estimated_requests, 1 AS prompt_tokens"
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE usage")
    connection.execute(
        "CREATE VIEW usage AS WITH RECURSIVE n(hour) AS (SELECT 1 UNION ALL SELECT hour + 1 FROM n) "
        f"SELECT hour, {columns}, 1 AS cached_prompt_tokens, 1 AS completion_tokens, 1 AS cost_nano FROM n"
    )
    connection.close()
    monkeypatch.setattr(report, "MAX_READING_S", 0.0)
    with pytest.raises(UsageFileError, match="reading it took longer than 0 s; ask for less"):
        read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_is_read_in_a_directory_that_may_not_be_written(path: Path) -> None:
    write(path, batch("a"))
    path.parent.chmod(0o555)
    try:
        assert read(path).total.requests == 1
        path.chmod(0o444)
        with pytest.raises(UsageFileError, match="it may not be written; let this user write it"):
            UsageStore(str(path)).add(batch("a"))
    finally:
        path.parent.chmod(0o755)
