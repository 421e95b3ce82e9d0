"""Completion, with a real bash where there is one to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

from vastar_runtime import cli

ROOT = Path(__file__).resolve().parents[2]

# What bash's own completion does at a press of TAB: it calls the function that is registered for the command.
PRESS_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
words=$(complete -p vastar-runtime); words=${words#*-F }
compopt() { echo "option: $*"; }
${words%% *} "$1" "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, and beside it the command that it calls."""
    directory = tmp_path_factory.mktemp("completion")
    command = directory / cli.NAME
    command.write_text(f"#!{sys.executable}\nfrom vastar_runtime.cli import main\nmain()\n")
    command.chmod(0o700)
    script = directory / "completion.bash"
    script.write_text(run("completion", "bash").stdout)
    return script


def press_tab(script: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB, "bash", str(script), cli.NAME, *words],
        capture_output=True,
        text=True,
        env={"PATH": f"{script.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["sta"], ["start", "status"]),
        (["cl"], ["clean"]),
        (["config", "ex"], ["example", "explain"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["usage", "--by", "t"], ["tenant"]),
        (["request", "-X", "p"], ["POST", "PUT", "PATCH"]),
        (["status", "--con"], ["--config"]),
        (["status", "--config", "/etc/p"], ["option:", "-o", "default"]),  # bash looks for files itself
    ],
)
def test_bash_completes_commands_options_and_values(script: Path, words: list[str], completed: list[str]) -> None:
    assert press_tab(script, *words) == completed


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef vastar-runtime"), ("fish", "complete --no-files")])
def test_other_shells_get_scripts_of_their_own(shell: str, sign: str) -> None:
    done = run("completion", shell)
    assert (done.exit_code, done.stderr) == (0, "")
    assert sign in done.stdout
    assert f"_VASTAR_RUNTIME_COMPLETE={shell}_complete" in done.stdout
    assert f"vastar-runtime completion {shell}" in run("completion", "--help").stdout


def test_a_shell_that_is_not_known_is_told_in_one_line_which_are() -> None:
    for arguments in (["completion", "csh"], ["completion"]):
        done = run(*arguments)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert all(shell in done.stderr for shell in ("bash", "zsh", "fish"))


def test_names_of_commands_are_completed_without_loading_them() -> None:
    script = (
        "import sys; from vastar_runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(n for n in sys.modules if n.startswith(('trio', 'vastar_runtime.cli.con'))))"
    )
    environ = os.environ | {"_VASTAR_RUNTIME_COMPLETE": "bash_complete", "COMP_WORDS": "v s", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environ, check=True, timeout=30
    )
    assert done.stdout.splitlines() == ["plain,start", "plain,stop", "plain,status", "plain,simulator", "[]"]
