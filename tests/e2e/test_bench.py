"""The measurements, in their shortest form: nothing fails, nothing is lost; how fast it was is not judged."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from worker_daemon import has_ended

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, ROOT / "scripts" / "bench" / "run.py", "--smoke"]
SCENARIOS = set("abcdefghi")
# The same command with two points instead of all: one with requests in flight, and one with streams.
FEW_POINTS = [
    sys.executable,
    "-c",
    f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
from bench import command
every = command.points
command.points = lambda scale: [point for point in every(scale) if point.name in ("b/4", "c/4x5ms")]
command.main()
""",
    "--smoke",
]


@contextmanager
def bench(
    *options: str | Path, command: Sequence[str | Path] = COMMAND, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A run; interrupted at the end, if it has not ended."""
    process = subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit status, standard output and standard error."""
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def children(process: subprocess.Popen[str]) -> dict[str, list[int]]:
    """The processes that a run has started, by the name of their program."""
    found: dict[str, list[int]] = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # a load that has ended meanwhile
            found.setdefault(Path(f"/proc/{pid}/comm").read_text().strip(), []).append(int(pid))
    return found


def under_way(process: subprocess.Popen[str]) -> dict[str, list[int]]:
    """Wait until it has measured something; its children then."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("round 1"):
            return children(process)
    raise AssertionError("it ended before it measured anything")


def test_every_scenario_is_answered_in_full(tmp_path: Path) -> None:
    with bench("--out", tmp_path) as process:
        status, stdout, stderr = ended(process)
    assert status == 0, stderr
    assert stdout == ""

    results = json.loads((tmp_path / "performance" / "result.json").read_text())
    assert results["problems"] == []
    measured = {(each["point"], each["target"]): each["values"] for each in results["measured"]}
    assert {point[0] for point, _ in measured} == SCENARIOS - ({"h"} if nginx() is None else set())
    for point in results["titles"]:
        if point[0] != "h" or nginx():
            assert (point, "daemon") in measured
    for key, values in measured.items():
        for failure in ("errors", "lost_connections", "unanswered", "lost_events"):
            assert values.get(failure, 0) == 0, key
        assert values.get("requests", 1) > 0, key
        if key[0][0] in "abcdeh" and key[1] != "direct":
            assert values["cpu_us_per_request"] > 0, key

    page = (tmp_path / "performance.md").read_text()
    for chart in ("latency", "throughput", "chunk_delay"):
        assert f"](performance/{chart}.png)" in page
        assert (tmp_path / "performance" / f"{chart}.png").read_bytes().startswith(b"\x89PNG")

    assert ("a/2", "direct") in measured
    assert ("a/2", "httpx2") in measured
    assert (("a/2", "nginx") in measured) is (nginx() is not None)
    if nginx() is None:
        assert "nginx is not installed; apt-get install nginx-light" in stderr
        pytest.skip("nginx is not installed: the run went on without it, and without TLS upstreams")


def nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def test_an_upstream_that_dies_ends_the_run_with_one_line() -> None:
    with bench() as process:
        started = under_way(process)
        [upstream] = started["upstream"]
        os.kill(upstream, signal.SIGKILL)
        status, stdout, stderr = ended(process)
    assert (status, stdout) == (1, "")
    errors = [line for line in stderr.splitlines() if not line.startswith("round ")]
    assert errors == ["Error: upstream ended by SIGKILL"]
    assert all(has_ended(pid) for pids in started.values() for pid in pids), started


@pytest.mark.unmeasured
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_stops_all_that_it_has_started(number: signal.Signals) -> None:
    with bench() as process:
        started = under_way(process)
        assert "upstream" in started
        process.send_signal(number)
        status, stdout, stderr = ended(process)
    assert (status, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "Interrupted; nothing was written"
    assert "Traceback" not in stderr
    assert all(has_ended(pid) for pids in started.values() for pid in pids), started


def test_requests_that_fail_are_told_and_fail_the_run(tmp_path: Path) -> None:
    """A daemon that gives up after 10 ms, where the upstream takes 20."""
    config = tmp_path / "runtime.toml"
    config.write_text("[policy.deadline]\nmax_duration_ms = 10\n")
    runtime = tmp_path / "vastar-runtime"
    runtime.write_text(f'#!/bin/sh\nVASTAR_CONFIG={config} exec "{sys.executable}" -m vastar_runtime "$@"\n')
    runtime.chmod(0o755)
    with bench("--runtime", runtime, "--out", tmp_path, command=FEW_POINTS) as process:
        status, _, stderr = ended(process)
    assert status == 1
    errors = [line.removeprefix("Error: ") for line in stderr.splitlines() if line.startswith("Error: ")]
    assert any(re.match(r"round 1, b/4 on daemon: \d+ errors \(", line) for line in errors), stderr
    assert json.loads((tmp_path / "performance" / "result.json").read_text())["problems"] == errors
    assert all(f"- {line}\n" in (tmp_path / "performance.md").read_text() for line in errors)


def test_a_daemon_that_does_not_start_ends_the_run_with_its_last_line(tmp_path: Path) -> None:
    runtime = tmp_path / "vastar-runtime"
    runtime.write_text("#!/bin/sh\ncase $* in *--help) ;; *) echo out of luck >&2; exit 3 ;; esac\n")
    runtime.chmod(0o755)
    with bench("--runtime", runtime) as process:
        status, stdout, stderr = ended(process)
    assert (status, stdout) == (1, "")
    assert stderr == "Error: daemon ended with status 3: out of luck\n"


def test_a_command_that_is_no_daemon_is_refused(tmp_path: Path) -> None:
    with bench("--runtime", tmp_path / "missing") as process:
        status, _, stderr = ended(process)
    assert status == 1
    assert stderr.startswith(f"Error: {tmp_path / 'missing'} cannot be run: ")
    assert len(stderr.splitlines()) == 1


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path) -> None:
    with bench(PATH=str(tmp_path)) as process:
        status, _, stderr = ended(process)
    assert status == 1
    assert stderr == "Error: no C compiler (cc) was found; on Debian: apt-get install gcc libc6-dev\n"


def test_without_its_packages_it_says_which_and_where_they_come_from() -> None:
    done = subprocess.run([sys.executable, "-S", COMMAND[1], "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"Error: No module named '\w+'; the bench needs the development packages: scripts/test.sh installs them\n",
        done.stderr,
    )
