"""The simulator as users run it: a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def simulator_port_of(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The port that it listens on.

    Args:
        command: starts it, on any free port.
    """
    with subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        match = re.search(r"http://[^:]+:(\d+)", process.stdout.readline())
        assert match is not None
        yield match[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
