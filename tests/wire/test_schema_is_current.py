"""``scripts/generate_schema.py --check`` tells whether the committed generated code belongs to the schema."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path("scripts/generate_schema.py")
SCHEMA = Path("schemas/connector_ipc.fbs")
GENERATED = Path("connector_sdk/wire/_generated")


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that the script looks at, in the same layout, free to be changed."""
    for file in (SCRIPT, SCHEMA, *(path.relative_to(ROOT) for path in (ROOT / GENERATED).glob("*.py"))):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def assert_stale(root: Path, names: str) -> None:
    done = run(root, "--check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"Error: stale generated code: {names}; run: python scripts/generate_schema.py\n"


def test_the_committed_code_belongs_to_the_committed_schema() -> None:
    done = run(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "connector_sdk/wire/_generated is up to date\n"


def test_a_changed_schema_is_noticed_and_running_the_script_mends_it(copy: Path) -> None:
    change(copy / SCHEMA, "reason: string;", "reason: string;\n  restart_in_ms: uint32;")
    before = (copy / GENERATED / "connector_ipc_generated.py").read_text()
    assert_stale(copy, "connector_ipc_generated.py")
    assert (copy / GENERATED / "connector_ipc_generated.py").read_text() == before, "--check writes nothing"
    assert run(copy).returncode == 0
    assert "def GoAwayAddRestartInMs" in (copy / GENERATED / "connector_ipc_generated.py").read_text()
    assert run(copy, "--check").returncode == 0


def test_generated_code_that_was_edited_is_noticed(copy: Path) -> None:
    with (copy / GENERATED / "connector_ipc_generated.py").open("a") as file:
        file.write("EDITED = True\n")
    assert_stale(copy, "connector_ipc_generated.py")


def test_a_file_too_many_and_one_that_is_missing_are_noticed(copy: Path) -> None:
    (copy / GENERATED / "left_over.py").write_text("")
    (copy / GENERATED / "__init__.py").unlink()
    assert_stale(copy, "__init__.py, left_over.py")
    assert run(copy).returncode == 0
    assert run(copy, "--check").returncode == 0


def test_a_schema_that_flatc_cannot_read_is_named(copy: Path) -> None:
    change(copy / SCHEMA, "reason: string;", "reason: strin;")
    done = run(copy, "--check")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: flatc refused connector_ipc.fbs: ")
    assert "strin" in done.stderr
    assert "Traceback" not in done.stderr
