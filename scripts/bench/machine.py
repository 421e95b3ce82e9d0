"""Where figures come from: they mean nothing without it."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_TELL_PYTHON = (
    "import platform as p; print(p.python_version() + ', ' + ' '.join(p.python_build()) + ', ' + p.python_compiler())"
)
ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("vastar-runtime", "trio", "h11", "msgspec", "flatbuffers", "httpx2", "anyio")


def machine(nginx: str | None, runtime: str) -> dict[str, str]:
    """Name and value of everything that a reader needs to judge the figures, in the order of the page.

    Args:
        nginx: path of nginx, None when there is none.
        runtime: the vastar-runtime that is measured.
    """
    load_1m, _, _ = os.getloadavg()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": _revision(),
        "CPU": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "Python": _python(runtime),
        "nginx": _nginx(nginx),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
        "load before": f"{load_1m:.2f}",
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _python(runtime: str) -> str:
    """The interpreter that a command runs in, and what it was compiled with: builds of one version differ."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        first, _, _ = Path(runtime).read_text().partition("\n")
        if first.startswith("#!"):
            command = [first[2:].strip(), "-c", _TELL_PYTHON]
            told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
            return told or "unknown"
    return "unknown"


def _nginx(path: str | None) -> str:
    if path is None:
        return "not installed"
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2] or "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _revision() -> str:
    revision = _git("rev-parse", "--short=12", "HEAD")
    if revision is None:
        return "unknown"
    changes = _git("status", "--porcelain", "--", "connector_sdk", "vastar_runtime")
    return f"{revision} with changes" if changes else revision
