"""What processes have used: CPU time and memory, from the kernel's accounts."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def process_tree(pid: int) -> list[int]:
    """``pid`` and all that descend from it, parents first; those that have ended meanwhile are left out."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process and its living descendants, in seconds.

    From each process's CPU clock (clock_getcpuclockid(3)): the time that /proc/PID/stat gives in ticks of 10 ms, in
    nanoseconds, with threads that have ended.
    """
    total = 0.0
    for each in process_tree(pid):
        try:
            total += time.clock_gettime((~each << 3) | 2)
        except OSError:
            continue  # it has ended
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of one process, shared pages in full (/proc/PID/statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def pss_bytes(pid: int) -> int:
    """Memory of a process and its descendants, pages that several share counted once (/proc/PID/smaps_rollup)."""
    total = 0
    for each in process_tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
