"""One check's failure stops no other, what hangs is left behind, and nobody else's words drive a terminal."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from vastar_runtime.cli import _group
from vastar_runtime.cli import doctor as command
from vastar_runtime.cli.doctor_checks import plan
from vastar_runtime.cli.doctor_checks.circumstances import Circumstances
from vastar_runtime.cli.doctor_checks.finding import Finding, State, ok, problem, warning
from vastar_runtime.cli.doctor_checks.plan import Family, Report, examine

SEEN = Circumstances(environ={}, log_path="/x")
EVIL = "x\x1b[2J\nRunning\x9b"


def test_a_check_that_fails_or_hangs_leaves_the_others_their_say(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(plan, "CHECK_TIMEOUT_S", 0.2)

    def check_what_hangs(_seen: Circumstances) -> Iterator[Finding]:
        over.wait(30)
        yield ok("too late", "")

    def check_what_fails(_seen: Circumstances) -> Iterator[Finding]:
        yield ok("not told", "")
        raise LookupError("x")

    def check_well(_seen: Circumstances) -> Iterator[Finding]:
        yield ok("well", "it is")

    families = (Family("A", (check_what_hangs, check_what_fails)), Family("B", (check_well,)))
    first, second = examine(SEEN, families)
    over.set()
    assert [(f.name, f.state) for f in first.findings] == [
        ("what hangs", State.NOT_CHECKED),
        ("what fails", State.NOT_CHECKED),
    ]
    assert first.findings[1].found == "the check itself failed (LookupError: x); please report that"
    assert second.findings == [ok("well", "it is")]


def test_what_others_wrote_is_shown_in_one_line_and_is_no_part_of_a_command() -> None:
    finding = problem("name", EVIL, EVIL, f"rm {EVIL}")
    assert finding.found.isprintable()
    assert finding.remedy.isprintable()
    assert finding.command is None
    assert len(warning("name", "x" * 10_000).found) == 1001
    assert warning("name", "", command="x" * 10_000).command is None


def test_lines_and_json_without_colour_and_an_exit_code_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [ok("a", "fine"), warning("b", "odd", "look"), problem("c", "broken", "mend it", "mend --all")]
    monkeypatch.setattr(command, "_reports", lambda *_: iter([Report("Family", findings), Report("Empty", [])]))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    told = CliRunner().invoke(_group, ["doctor", "--without-request", "--config", "/dev/null"])
    assert told.exit_code == 1
    assert told.output == (
        "Family\n"
        "   ok           a: fine\n"
        "   warning      b: odd\n"
        "                -> look\n"
        "   problem      c: broken\n"
        "                -> mend it: mend --all\n"
        "1 problem, 1 warning, 0 not checked, 1 ok\n"
    )
    del findings[2]
    told = CliRunner().invoke(_group, ["doctor", "--without-request", "--config", "/dev/null", "--json"])
    assert told.exit_code == 0
    assert json.loads(told.output) == {
        "healthy": True,
        "problems": 0,
        "warnings": 1,
        "not_checked": 0,
        "checks": [
            {"family": "Family", "name": "a", "state": "ok", "found": "fine", "remedy": None, "command": None},
            {"family": "Family", "name": "b", "state": "warning", "found": "odd", "remedy": "look", "command": None},
        ],
    }
    assert CliRunner().invoke(_group, ["doctor", "--no-such-option"]).exit_code == 2


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert command._has_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not command._has_colour()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not command._has_colour()
