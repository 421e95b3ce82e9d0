"""Commands on ground that has gone from under them: the working directory, and a package that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import trio
from command_line import run

from vastar_runtime import __main__ as scripts
from vastar_runtime import cli


@pytest.mark.parametrize(
    ("arguments", "variable", "name"),
    [
        ("status --socket rel", None, "--socket"),
        ("request --socket rel http://127.0.0.1/", None, "--socket"),
        ("start --config rel", None, "--config"),
        ("run --config rel", None, "--config"),
        ("start --log-file rel", None, "--log-file"),
        ("doctor --log-file rel", None, "--log-file"),
        ("usage --file rel", None, "--file"),
        ("start", "VASTAR_LOG_FILE", "VASTAR_LOG_FILE"),
        ("status", "VASTAR_SOCKET_PATH", "VASTAR_SOCKET_PATH"),
        ("start", "VASTAR_CONFIG", "VASTAR_CONFIG"),
    ],
)
def test_a_path_that_is_relative_to_a_directory_that_is_gone_is_bad_usage(
    arguments: str, variable: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    done = run(*arguments.split(), environ={variable: "rel"} if variable else None)
    assert done.exit_code == 2
    assert done.output == (
        f"Error: {name}: 'rel' is relative, and the working directory is gone (No such file or directory); "
        "go to one that exists, or write the whole path\n"
    )


def test_a_package_that_is_missing_is_named_before_any_command_is_looked_for() -> None:
    script = "import sys; sys.modules['msgspec'] = None; from vastar_runtime.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: the Python package msgspec is missing or broken (")
    assert line.endswith("); install it again: pip install --force-reinstall vastar-runtime")


@pytest.mark.parametrize("script", ["main", "run_daemon"])
def test_what_a_command_meets_of_a_broken_package_is_told_and_a_fault_of_ours_is_not_hidden(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(error: Exception) -> object:
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli, script, fail)
        with pytest.raises((SystemExit, type(error))) as caught:
            getattr(scripts, script)()
        return caught.value.code if isinstance(caught.value, SystemExit) else caught.value

    binary = ImportError("undefined\n symbol", name="trio._core", path="/x.so")
    said = ended(binary)
    assert str(said).startswith("Error: the Python package trio is missing or broken (undefined symbol); install")
    half = ModuleType("trio")  # a directory without files
    assert "package trio is" in str(ended(AttributeError("no", name="run", obj=half)))
    for ours in (
        ModuleNotFoundError("no", name="vastar_runtime.cli.gone"),
        ModuleNotFoundError("no", name="_sqlite3"),  # Python's own: nothing of ours brings it back
        ImportError("no"),
        AttributeError("no", name="x", obj=object()),
        AttributeError("no", name="x", obj=cli),
        AttributeError("no", name="no_such_thing", obj=trio),
    ):
        assert ended(ours) is ours
