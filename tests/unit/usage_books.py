"""Usage files for tests, and what is in them."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from vastar_runtime.metering.batch import Batch, UsageCounts, UsageKey

ROOT = Path(__file__).resolve().parents[2]
HOUR = 496_000  # 2026-08-01 16:00 UTC
SUMS = "sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(cost_nano)"


def clock(hour: int = HOUR) -> float:
    return hour * 3600.0 + 1.0


def counts(
    requests: int = 1, prompt: int = 0, completion: int = 0, cost_nano: int = 0, estimated: int = 0, cached: int = 0
) -> UsageCounts:
    made = UsageCounts()
    made.requests, made.estimated_requests = requests, estimated
    made.prompt_tokens, made.cached_prompt_tokens, made.completion_tokens = prompt, cached, completion
    made.cost_nano = cost_nano
    return made


def batch(*names: str, hour: int = HOUR, **of_each: int) -> Batch:
    """One key for each model."""
    return {UsageKey(hour, "acme", "https://api.openai.com", name): counts(**of_each) for name in names}


def in_file(path: Path, expression: str = "sum(requests)") -> tuple[object, ...]:
    """What a tool of somebody else finds; the file is whole."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (row,) = connection.execute(f"SELECT {expression} FROM usage").fetchall()
        return tuple(row)
    finally:
        connection.close()


def process(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process with this script; its standard input and output are pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
