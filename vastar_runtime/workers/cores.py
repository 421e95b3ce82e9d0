"""How many workers "auto" is: the cores that this process may use."""

from __future__ import annotations

import os

from vastar_runtime.config import MAX_WORKERS


def usable_cores(own_cgroup: str = "/proc/self/cgroup", mounted_at: str = "/sys/fs/cgroup") -> int:
    """Cores that the scheduler lets it run on, or fewer where a cgroup (v2) allots less time; rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open(own_cgroup, encoding="utf-8") as file:
            # "0::/system.slice/app.service", cgroups(7); in a container mostly "0::/".
            paths = [line.rstrip("\n").partition("::")[2] for line in file if line.startswith("0::")]
        for path in paths:
            with open(f"{mounted_at}{path}/cpu.max", encoding="ascii") as file:
                allotted_us, period_us = file.read().split()
            if allotted_us != "max":
                cores = min(cores, -(-int(allotted_us) // int(period_us)))
    except (OSError, ValueError):  # no cgroup v2, or one without a limit of this kind
        pass
    return max(1, min(cores, MAX_WORKERS))
