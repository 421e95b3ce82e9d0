"""``vastar-runtime simulator``: its options, the existing file beside them, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vastar_runtime import cli
from vastar_runtime.cli import simulator as command
from vastar_runtime.simulator.faults import Fault
from vastar_runtime.simulator.settings import SimulatorSettings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments that serving was begun with; nothing is served."""
    calls: list[Any] = []
    monkeypatch.setattr(command.trio, "run", lambda _run, *arguments: calls.append(arguments))
    monkeypatch.setattr(command.logging, "basicConfig", lambda **options: calls.append(options["level"]))
    return calls


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulator", *arguments])
    code = caught.value.code
    return code if isinstance(code, int) else 0


def test_without_options_it_is_quiet_and_answers_every_model_from_this_machine(served: list[Any]) -> None:
    assert call() == 0
    assert served == ["WARNING", ("127.0.0.1", 4545, SimulatorSettings(), None)]


def test_every_option_has_its_setting(served: list[Any]) -> None:
    options = "--host ::1 --port 0 --require-key k --model a --model b --responses d --rai --tokens-per-second 0.5"
    more = "--first-token-ms 20 --jitter 0.1 --seed 3 --fault status=503 --log-level info --ready-fd 9"
    assert call(*options.split(), *more.split()) == 0
    settings = SimulatorSettings(
        require_key="k",
        models=("a", "b"),
        responses="d",
        rai=True,
        tokens_per_second=0.5,
        first_token_ms=20,
        jitter=0.1,
        seed=3,
        fault=Fault(text="status=503", status=503),
    )
    assert served == ["INFO", ("::1", 0, settings, 9)]
    served.clear()
    assert call("--fault", "none") == 0
    assert served == ["WARNING", ("127.0.0.1", 4545, SimulatorSettings(), None)]


def test_options_win_over_the_file_which_says_what_has_no_effect(
    served: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("binding: {port: 0, host: localhost}\nsource: file\nlog_level: trace\nworkers: 8\n")
    assert call("--config", str(file)) == 0
    folder = SimulatorSettings(responses=str(tmp_path / "zresponse"))
    assert served == ["DEBUG", ("localhost", 0, folder, None)]
    assert capsys.readouterr().err == f"{file}:4: workers has no effect: one process answers all\n"
    served.clear()
    assert call("--config", str(file), "--port", "1", "--host", "h", "--echo", "--log-level", "error") == 0
    assert served == ["ERROR", ("h", 1, SimulatorSettings(echo=True), None)]


def test_a_database_is_refused_unless_the_answers_come_from_elsewhere(
    served: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("source: database\n")
    assert call("--config", str(file)) == 2
    assert capsys.readouterr().err.startswith(f"Error: {file}:1: source: database is not served here: write its")
    assert call("--config", str(file), "--responses", "d") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--require-key=", "the key is empty"),
        ("--model=", "1 to 256 characters"),
        ("--model=m\udcff", "is no UTF-8"),
        ("--echo --responses d", "--echo and --responses exclude each other"),
        ("--tokens-per-second nan", "nan is no number"),
        ("--tokens-per-second 0.001", "0.001 is neither 0 nor at least 0.01"),
        ("--tokens-per-second -1", "not in the range"),
        ("--tokens-per-second inf", "not in the range"),
        ("--first-token-ms 1.5", "not a valid integer range"),
        ("--jitter 2", "not in the range"),
        ("--jitter nan", "nan is no number"),
        ("--seed -1", "not in the range"),
        ("--fault status=9", "status takes a whole number from 200 to 599"),
        ("--fault sttus=503", "did you mean status?"),
        ("--config /nonexistent/config.yml", "cannot read /nonexistent/config.yml: no such file or directory"),
        ("--log-level loud", "'loud' is not one of"),
        ("--chunk-delay-ms 5", "No such option"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    served: list[Any], arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments.split(" ")) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), served) == ("", 1, [])
    assert err.startswith("Error: ")
    assert says in err


def test_a_directory_without_answers_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--port", "0", "--responses", str(tmp_path)) == 1
    assert capsys.readouterr().err == (
        f"Error: no answers in {tmp_path}: it has no *.md file with a text in it; "
        "name a directory of *.md files with --responses\n"
    )


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    assert "Example: vastar-runtime simulator --port 4545" in capsys.readouterr().out
