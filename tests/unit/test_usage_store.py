"""Usage in its file: sums, names, what is too old; and files that are not what they should be."""

import contextlib
import os
import random
import resource
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_books import HOUR, SUMS, batch, clock, counts, in_file

from vastar_runtime.errors import StartupError
from vastar_runtime.metering import usage_file
from vastar_runtime.metering.batch import Totals, UsageKey
from vastar_runtime.metering.rows import MAX_COUNT
from vastar_runtime.metering.store import UsageFileError, UsageStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def store(path: Path) -> Iterator[UsageStore]:
    store = UsageStore(str(path), unix_clock=clock)
    yield store
    store.close()


def test_nothing_is_made_before_there_is_something_to_keep(store: UsageStore, path: Path) -> None:
    store.close()
    assert not path.exists()


def test_what_is_added_is_summed_up_for_each_key(store: UsageStore, path: Path) -> None:
    store.add(batch("a", "b", prompt=10, completion=1, cost_nano=7))
    store.add(batch("a", requests=2, prompt=5, estimated=1, cached=3))
    assert in_file(path, "count(*)") == (2,)
    assert in_file(path, f"{SUMS}, sum(estimated_requests), sum(cached_prompt_tokens)") == (4, 25, 2, 14, 1, 3)


@pytest.mark.parametrize("size", [1, 89, 90, 91, 180, 1000])
def test_batches_of_every_size_are_written_whole(size: int, store: UsageStore, path: Path) -> None:
    names = [f"model-{number}" for number in range(size)]
    for _ in range(2):
        store.add(batch(*names, prompt=3))
    assert in_file(path, "count(*), sum(requests), sum(prompt_tokens)") == (size, 2 * size, 6 * size)


def test_the_file_and_the_directories_that_are_made_for_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vastar" / "usage.db"
    store = UsageStore(str(path))
    store.add(batch("a"))
    for end in ("", "-wal", "-shm"):
        assert stat.S_IMODE(os.stat(f"{path}{end}").st_mode) == 0o600
    for directory in (path.parent, path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    store.close()


def test_a_closed_file_is_complete_in_itself_and_goes_on_with_the_next_batch(
    store: UsageStore, path: Path, tmp_path: Path
) -> None:
    store.add(batch("a"))
    store.close()
    assert os.listdir(tmp_path) == ["usage.db"]
    store.add(batch("a"))
    assert in_file(path) == (2,)


def test_totals_are_those_of_one_tenant_from_an_hour_on(store: UsageStore) -> None:
    for hour in (HOUR - 2, HOUR - 1, HOUR):
        store.add(batch("a", "b", hour=hour, prompt=10, completion=5, cost_nano=2, cached=9))
    store.add({UsageKey(HOUR, "other", "o", "a"): counts(prompt=1000)})
    assert store.totals("acme", HOUR - 1)[0] == Totals(60, 8)
    assert store.totals("nobody", 0)[0] == Totals(0, 0)
    assert store.totals("acme", 2**70)[0] == Totals(0, 0)


def test_what_was_counted_before_is_taken_back_by_what_is_negative(store: UsageStore, path: Path) -> None:
    store.add(batch("asked", prompt=100, completion=50, cost_nano=9))
    store.add(batch("asked", requests=-1, prompt=-100, completion=-50, cost_nano=-9))
    store.add(batch("told", prompt=70, completion=20, cost_nano=6))
    store.add(batch("later", requests=0, hour=HOUR + 1, prompt=-10, cost_nano=-(2**70)))
    assert in_file(path, "sum(requests), sum(prompt_tokens), sum(completion_tokens), min(cost_nano)") == (
        *(1, 60, 20),
        -MAX_COUNT,
    )
    assert store.totals("acme", 0)[0] == Totals(80, 6 - MAX_COUNT)


def test_reading_makes_nothing_and_leaves_nothing_behind(store: UsageStore, tmp_path: Path) -> None:
    assert store.totals("acme", 0) == (Totals(0, 0), 0)
    assert store.tenants() == {}
    assert os.listdir(tmp_path) == []
    store.add(batch("a", prompt=3))
    store.close()
    assert store.totals("acme", 0) == (Totals(3, 0), 1)
    assert os.listdir(tmp_path) == ["usage.db"]


def test_tenants_are_those_of_the_file_by_the_hours_that_they_are_in(store: UsageStore) -> None:
    for hour in (HOUR - 5, HOUR - 1, HOUR):
        store.add(batch("a", "b", hour=hour))
    store.add({UsageKey(HOUR, name, "o", "m"): counts() for name in ("z", "\ud800")})
    assert store.tenants() == {"z": 1, "acme": 3, "?": 1}


def test_counts_beyond_64_bits_stay_the_largest_integer(store: UsageStore, path: Path) -> None:
    store.add(batch("a", prompt=2**100, cost_nano=-5))
    store.add(batch("a", prompt=2**62, completion=1))
    store.add(batch("b", prompt=2**63 - 1, completion=2**63 - 1))
    assert in_file(path, "typeof(max(prompt_tokens)), max(prompt_tokens), max(cost_nano)") == ("integer", MAX_COUNT, 0)
    # Their sum is no 64-bit integer: SQLite's own sum() would be an error.
    assert store.totals("acme", 0)[0] == Totals(3 * MAX_COUNT + 1, -5)


@pytest.mark.parametrize(
    "name", ["", "a\0b", "\ud800", "\udcff\udc80", "'; DROP TABLE usage; --", "🙂" * 200, "\x1b[2J"]
)
def test_any_name_is_kept_and_found_again(name: str, store: UsageStore, path: Path) -> None:
    for _ in range(2):
        store.add({UsageKey(HOUR, name, name, name): counts(prompt=2)})
    assert store.totals(name, 0)[0] == Totals(4, 0)
    assert in_file(path, "count(*)") == (1,)


def test_names_that_become_one_in_the_file_are_summed_up(store: UsageStore, path: Path) -> None:
    store.add({UsageKey(HOUR, "t", "o", name): counts() for name in ("\ud800", "\udfff", "?")})
    assert in_file(path, "count(*), sum(requests)") == (1, 3)


def test_rows_that_are_too_old_are_deleted_at_the_first_batch_and_once_a_day(path: Path) -> None:
    now = HOUR
    store = UsageStore(str(path), keep_days=10, unix_clock=lambda: clock(now))
    store.add({})
    for age in (0, 239, 240, 241, 1000, 40_000):
        store.add(batch("a", hour=HOUR - age))
    assert in_file(path) == (6,)  # the day has begun
    store.close()
    store = UsageStore(str(path), keep_days=10, unix_clock=lambda: clock(now))
    store.add({})
    assert in_file(path) == (3,)
    now += 23
    store.add({})
    assert in_file(path) == (3,)
    now += 1
    store.add(batch("a", hour=now))
    assert in_file(path, "sum(requests), min(hour)") == (2, HOUR)
    store.close()


def test_a_file_that_is_deleted_while_it_is_open_is_made_anew(store: UsageStore, path: Path) -> None:
    store.add(batch("a"))
    path.unlink()
    store.add(batch("b"))
    assert in_file(path) == (1,)
    for end in ("", "-wal", "-shm"):
        os.unlink(f"{path}{end}")
    store.add(batch("c"))
    assert in_file(path) == (1,)
    assert store.totals("acme", 0)[0] == Totals(0, 0)


def test_a_directory_that_is_deleted_while_it_is_used_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state" / "usage.db"
    store = UsageStore(str(path))
    store.add(batch("a"))
    path.parent.rename(tmp_path / "away")
    store.add(batch("b"))
    assert in_file(path) == in_file(tmp_path / "away" / "usage.db") == (1,)
    store.close()


def test_a_file_that_is_put_in_its_place_is_gone_on_with(store: UsageStore, path: Path, tmp_path: Path) -> None:
    """What is still in the log of the old one must not come into the new one."""
    store.add(batch("a", "b", "c"))
    backup = UsageStore(str(tmp_path / "backup.db"), unix_clock=clock)
    backup.add(batch("saved", requests=100))
    backup.close()
    os.replace(tmp_path / "backup.db", path)
    store.add(batch("d"))
    assert in_file(path, "sum(requests), count(*)") == (101, 2)


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "usage.db").symlink_to(tmp_path / "disk" / "real.db")
    store = UsageStore(str(tmp_path / "usage.db"))
    store.add(batch("a"))
    assert in_file(tmp_path / "disk" / "real.db") == (1,)
    (tmp_path / "disk" / "real.db").unlink()
    store.add(batch("b"))
    assert in_file(tmp_path / "disk" / "real.db") == (1,)
    store.close()


def test_the_error_is_one_for_a_command_in_one_line(store: UsageStore, path: Path) -> None:
    path.write_bytes(b"no database at all " * 500)
    with pytest.raises(UsageFileError) as caught:
        store.add(batch("a"))
    assert isinstance(caught.value, StartupError)
    assert str(caught.value) == (
        f"the usage file {path} cannot be used: "
        "it is no SQLite database; move it away, or choose another in [usage] file"
    )
    assert path.read_bytes().startswith(b"no database")
    path.unlink()
    store.add(batch("a"))
    assert in_file(path) == (1,)


@pytest.mark.parametrize("version", [0, 2, -1, 2**31 - 1])
def test_a_file_of_another_version_is_left_as_it_is(version: int, store: UsageStore, path: Path) -> None:
    store.add(batch("a"))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageFileError, match=rf"its schema is {version}, and this version knows 1; use the version"):
        store.add(batch("a"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1, 75])
def test_the_database_of_another_program_is_left_as_it_is(version: int, store: UsageStore, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE usage (hour)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageFileError, match=r"it is the database of another program; choose another in \[usage\]"):
        store.add(batch("a"))
    assert path.read_bytes() == before


def test_damage_anywhere_in_the_file_is_an_error_or_none(path: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    store = UsageStore(str(path), unix_clock=clock)
    store.add(batch(*(f"model-{number}" for number in range(200))))
    store.close()
    whole = path.read_bytes()
    for number in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 50])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        copy = tmp_path / f"{number}.db"
        copy.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        store = UsageStore(str(copy), unix_clock=clock)
        with contextlib.suppress(UsageFileError):
            store.add(batch("model-7", "new"))
            store.totals("acme", 0)
        store.close()


def test_a_table_that_has_gone_is_an_error(store: UsageStore, path: Path) -> None:
    store.add(batch("a"))
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE usage")
    connection.close()
    for _ in range(2):
        with pytest.raises(UsageFileError, match="no such table: usage; move it away"):
            store.add(batch("a"))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for name, reason in (
        ("fifo", "it is no regular file; choose another"),
        ("", "it is a directory; choose another"),
        ("file/usage.db", "Not a directory; choose another"),
    ):
        store = UsageStore(str(tmp_path / name).rstrip("/"))
        with pytest.raises(UsageFileError, match=reason):
            store.add(batch("a"))
    with pytest.raises(UsageFileError, match=r"^the usage file /proc/vastar/usage.db cannot be used: No such file"):
        UsageStore("/proc/vastar/usage.db").add(batch("a"))


def test_a_full_disk_costs_nothing_that_was_there(
    store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_file, "MAX_FILE_BYTES", 16 * 4096)
    store.add(batch("a"))
    with pytest.raises(UsageFileError, match="the disk is full, or the file has reached 2 GiB; make room"):
        store.add(batch(*("x" * 200 + str(number) for number in range(1000))))
    assert in_file(path) == (1,)
    store.add(batch("a"))
    assert in_file(path) == (2,)


def test_a_disk_that_is_full_when_the_file_is_closed_costs_nothing_either(store: UsageStore, path: Path) -> None:
    """What is in the log only cannot be brought into the file then, and must be found there later."""
    names = [f"model-{number}" for number in range(200)]
    store.add(batch(*names))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 4096, hard))
    try:
        for _ in range(3):
            with pytest.raises(UsageFileError):
                store.add(batch(*(f"more-{name}" for name in names)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.add(batch("last"))
    assert in_file(path, "count(*), sum(requests)") == (201, 201)
    store.close()
    assert in_file(path, "count(*)") == (201,)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_what_another_process_reads_is_not_taken_from_it_by_a_failure(store: UsageStore, path: Path) -> None:
    store.add(batch("a", "b", "c"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM usage").fetchall()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(UsageFileError, match="locked"):
                store.add(batch("d"))
            holder.execute("ROLLBACK")
        store.add(batch("d"))
        assert in_file(path, "count(*)") == (4,)


def test_a_file_that_somebody_keeps_locked_is_an_error_until_they_end(
    store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_file, "BUSY_TIMEOUT_S", 0.0)
    store.add(batch("a"))
    with_tool = sqlite3.connect(path, isolation_level=None)
    with_tool.execute("BEGIN IMMEDIATE")
    with pytest.raises(UsageFileError, match="another process keeps it locked; end what else has it open"):
        store.add(batch("a"))
    assert store.totals("acme", 0) == (Totals(0, 0), 1)
    with_tool.execute("ROLLBACK")
    with_tool.close()
    store.add(batch("a"))
    assert in_file(path) == (2,)
