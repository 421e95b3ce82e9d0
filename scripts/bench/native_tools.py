"""The upstream and the load generator, in C: in Python they would be what is measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError

SOURCES = Path(__file__).resolve().parent / "native"
PROGRAMS = {
    "upstream": ("upstream.c",),
    "wireload": ("wireload.c", "samples.c", "http_client.c", "wire_client.c"),
}
COMPILE_PATIENCE_S = 60


def compile_tools(into: Path) -> dict[str, Path]:
    """Compile all of them; where each is, by its name.

    Raises:
        BenchError: no compiler, or it refuses.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("no C compiler (cc) was found; on Debian: apt-get install gcc libc6-dev")
    programs = {}
    for name, sources in PROGRAMS.items():
        programs[name] = into / name
        command: list[str | Path] = [compiler, "-O2", "-o", programs[name]]
        command += [SOURCES / source for source in sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_PATIENCE_S)
        if done.returncode != 0:
            reason = (done.stderr.strip() or "no reason given").splitlines()[0]
            raise BenchError(f"{compiler} cannot compile {name}: {reason}")
    return programs
