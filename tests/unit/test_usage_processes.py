"""One usage file and several processes, some of which are killed."""

from pathlib import Path

import pytest
from usage_books import batch, in_file, process

from vastar_runtime.metering.store import UsageStore

# Writes batches for ever; says after each how many requests it has been told are written.
WRITES = """
import sys, trio
from vastar_runtime.metering.ledger import UsageLog
from vastar_runtime.metering.store import UsageStore

async def main():
    log, written = UsageLog(UsageStore(sys.argv[1])), 0
    while written < int(sys.argv[2]):
        for number in range(10):
            log.add("acme", "https://api.openai.com", f"model-{number}", prompt_tokens=3, cost_nano=5)
        await log.flush()
        written += 10
        print(written, flush=True)
    while log._batch:
        await log.flush()

trio.run(main)
"""
# Adds one request for each line that it is given.
ADDS = """
import sys
from vastar_runtime.metering.batch import UsageCounts, UsageKey
from vastar_runtime.metering.store import UsageStore

store, counts = UsageStore(sys.argv[1]), UsageCounts()
counts.requests = 1
for line in sys.stdin:
    store.add({UsageKey(496_000, "acme", "o", line): counts})
    print("added", flush=True)
"""


@pytest.mark.parametrize("batches", [1, 7, 60])
def test_a_killed_process_loses_nothing_of_what_was_flushed(batches: int, tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with process(WRITES, path, 10**9) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(batches)][-1]
        writer.kill()
        told = int(([told, *writer.stdout.read().split()])[-1])
    requests, prompt_tokens, cost_nano = in_file(path, "sum(requests), sum(prompt_tokens), sum(cost_nano)")
    assert requests in (told, told + 10)  # whole batches
    assert (prompt_tokens, cost_nano) == (3 * requests, 5 * requests)
    store = UsageStore(str(path))
    store.add(batch("a"))
    assert in_file(path) == (requests + 1,)
    store.close()


def test_two_processes_that_write_at_once_sum_up_exactly(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with process(WRITES, path, 2000) as one, process(WRITES, path, 2000) as two:
        one.communicate()
        two.communicate()
    assert (one.returncode, two.returncode) == (0, 0)
    assert in_file(path, "count(*), sum(requests), sum(prompt_tokens)")[1:] == (4000, 12_000)


def test_processes_that_begin_at_once_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "usage.db"
    adders = [process(ADDS, path) for _ in range(4)]
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("a\n")
        adder.stdin.flush()
    for adder in adders:
        adder.communicate()
    assert in_file(path) == (4,)


def test_a_deleted_file_is_made_anew_while_another_process_still_has_it_open(tmp_path: Path) -> None:
    """They would share the index of its log otherwise, and each find the other's pages."""
    path = tmp_path / "usage.db"
    store = UsageStore(str(path))
    with process(ADDS, path) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def add() -> None:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write("a\n")
            other.stdin.flush()
            assert other.stdout.readline() == "added\n"

        add()
        store.add(batch("a"))
        for round_number in range(1, 4):
            path.unlink()
            if round_number % 2:
                store.add(batch("a"))
                assert in_file(path) == (1,)
                add()
            else:
                add()
                store.add(batch("a"))
            add()
            store.add(batch("a"))
            assert in_file(path) == (4,)
        other.stdin.close()
    store.add(batch("a"))
    store.close()
    assert in_file(path) == (5,)
