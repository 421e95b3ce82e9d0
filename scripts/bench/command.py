"""The command: measures, prints the table of goals, writes the page."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import click
import msgspec

from bench.errors import BenchError
from bench.interrupts import end_on_signals
from bench.machine import ROOT, machine
from bench.nginx import HOW_TO_INSTALL
from bench.report import goals_table, page
from bench.results import Results
from bench.rounds import measure
from bench.scenarios import FULL, QUICK, SMOKE, Scale, points
from bench.stage import Stage, stage

INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="Under three minutes: every figure of the goals, fewer points and rounds.")
@click.option(
    "--smoke", is_flag=True, help="A few seconds: a few requests of each scenario; writes nothing without --out."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to: DIR/performance.md, and DIR/performance/ with the charts and result.json.  [default: docs]",
)
@click.option(
    "--runtime",
    metavar="PATH",
    default=str(Path(sys.executable).with_name("vastar-runtime")),
    help="The vastar-runtime to measure.  [default: the one of this environment]",
)
def main(quick: bool, smoke: bool, out: Path | None, runtime: str) -> None:
    """Measure the daemon beside nginx, httpx2 and the bare upstream.

    Starts everything itself, on free ports and temporary sockets, and stops it. Without --quick it takes about 25
    minutes. Exit status 0 unless something failed: an error, an event that was lost, a target that did not start; never
    because of a figure.
    """
    if quick and smoke:
        raise click.UsageError("--quick and --smoke exclude each other")
    scale = QUICK if quick else SMOKE if smoke else FULL
    if out is None and not smoke:
        out = ROOT / "docs"
    end_on_signals()
    _raise_file_limit()
    try:
        results = _run(scale, runtime)
    except BenchError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted; nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if not smoke:
        print(goals_table(results))
    if out is not None:
        _write(results, out)
    for problem in results.problems:
        print(f"Error: {problem}", file=sys.stderr)
    sys.exit(1 if results.problems else 0)


def _run(scale: Scale, runtime: str) -> Results:
    todo = points(scale)
    with stage(runtime) as on:
        _tell_what_is_missing(on)
        results = Results(scale.name, machine(on.nginx_path, runtime), {point.name: point.title for point in todo})
        measure(on, todo, scale, results, _tell)
    return results


def _raise_file_limit() -> None:
    """For all that is started: the usual soft limit of 1,024 is less than the connections of one point."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell_what_is_missing(on: Stage) -> None:
    for target, why in on.missing.items():
        _tell(f"Without {target}: {why}" if why != HOW_TO_INSTALL else f"{why}; going on without it")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(results: Results, out: Path) -> None:
    from bench.charts import draw  # takes a while to load, and smoke runs need none

    into = out / "performance"
    into.mkdir(parents=True, exist_ok=True)
    (into / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    charts = [chart.relative_to(out) for chart in draw(results, into)]
    (out / "performance.md").write_text(page(results, charts))
    _tell(f"Wrote {out / 'performance.md'}")
