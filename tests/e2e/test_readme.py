"""The README tells the truth: what it shows is run here, on private sockets and free ports."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_process import simulator_port_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "sh"]
PYTHON = [text for language, text in BLOCKS if language == "python"]
[TOML, KEYS] = [text for language, text in BLOCKS if language == "toml"]
SIMULATOR_PORT = "4545"
START = "vastar-runtime start  "  # and not the one with a configuration
START_WORKERS = "vastar-runtime start --workers"


def shell_block(command: str) -> str:
    (block,) = [text for text in SHELL if command in text]
    return block


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A machine of its own: no daemon, no log, no key of the person who runs the tests."""
    with tempfile.TemporaryDirectory(prefix="readme", dir="/tmp") as directory:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("VASTAR_", "OPENAI_"))}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        environ["VASTAR_CONFIG"] = os.devnull
        environ["VASTAR_SOCKET_PATH"] = f"{directory}/socket"
        environ["VASTAR_LOG_FILE"] = f"{directory}/log"
        yield environ


def shell(block: str, environ: dict[str, str], cwd: Path | str = ROOT) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=cwd,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def daemon(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    start, _, stop = shell_block(START).strip().splitlines()
    shell(start, environment)
    yield environment
    shell(stop, environment)


@pytest.fixture
def simulator_port(environment: dict[str, str]) -> Iterator[str]:
    """The simulator as the README starts it, but on any free port."""
    with simulator_port_of(
        shell_block("vastar-runtime simulator").replace(SIMULATOR_PORT, "0").split(), environment
    ) as port:
        yield port


def python(block: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", block], env=environ, capture_output=True, text=True, timeout=50, check=False
    )


def test_start_status_and_stop(environment: dict[str, str]) -> None:
    output = shell(shell_block(START), environment)

    assert environment["VASTAR_SOCKET_PATH"] in output
    assert not os.path.exists(environment["VASTAR_SOCKET_PATH"])


def test_the_configuration_is_checked_explained_used_and_reloaded(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text(TOML)

    output = shell(shell_block("check --config runtime.toml"), environment, tmp_path)

    assert re.search(r"runtime\.toml is valid: .*3 scopes", output)
    assert re.search(r"^rate_limit\.per_tenant +60/min +\S*runtime\.toml:9\b", output, re.MULTILINE)
    assert re.search(r"^retry\.max_retries +1 +\S*runtime\.toml:17\b", output, re.MULTILINE)
    assert "Reloaded" in output
    assert "Held back: nothing" in output


def test_the_key_is_hidden_and_what_was_used_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    """With the simulator asking for the key, the openai example as it stands is answered, by the daemon's key."""
    environment["XDG_STATE_HOME"] = str(tmp_path)
    *start, usage, stop = shell_block("--config keys.toml").strip().splitlines()
    command = [*shell_block("vastar-runtime simulator").replace(SIMULATOR_PORT, "0").split(), "--require-key", "s3cr3t"]
    with simulator_port_of(command, environment) as port:
        (tmp_path / "keys.toml").write_text(KEYS.replace("1001", str(os.getuid())).replace(SIMULATOR_PORT, port))
        try:
            output = shell("\n".join(start).replace(SIMULATOR_PORT, port), environment, tmp_path)
            assert re.search(r"keys\.toml is valid", output)
            assert re.search(rf"^access +uid {os.getuid()} +", output, re.MULTILINE)
            assert re.search(r"^credential\.authorization +simulator +", output, re.MULTILINE)
            assert re.search(r"^budget\.monthly +50\.0 USD a month +", output, re.MULTILINE)
            (example,) = [block for block in PYTHON if "from openai import OpenAI" in block]
            done = python(example.replace(SIMULATOR_PORT, port), environment)
            assert (done.returncode, done.stderr) == (0, "")
            told = ""
            while "default" not in told:  # it is written within half a second
                told = shell(usage, environment, tmp_path)
            assert "USD" in told
        finally:
            shell(stop, environment, tmp_path)


def test_several_processes_serve_and_status_tells_of_each(environment: dict[str, str]) -> None:
    # "auto" is one process where the tests have one core.
    output = shell(shell_block(START_WORKERS).replace("auto", "2"), environment)

    assert re.search(r"^ +Workers: 2 \(PIDs \d+, \d+\)$", output, re.MULTILINE)
    assert not os.path.exists(environment["VASTAR_SOCKET_PATH"])


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.splitlines()[0])
def test_every_python_block_runs(block: str, daemon: dict[str, str], simulator_port: str) -> None:
    done = python(block.replace(SIMULATOR_PORT, simulator_port), daemon)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


def test_the_demo_answers_from_any_checkout(environment: dict[str, str]) -> None:
    output = shell(shell_block("demo.sh"), environment)

    assert "streaming" in output.lower()


def test_the_test_command_is_what_continuous_integration_runs() -> None:
    command = shell_block("scripts/test.sh").strip()

    assert os.access(ROOT / command, os.X_OK)
    assert command.removeprefix("./") in (ROOT / ".ci" / "run").read_text()


def test_the_environment_that_is_activated_is_the_one_that_the_scripts_make() -> None:
    environment = shell_block("activate").split()[1].removesuffix("/bin/activate")

    assert f'VENV="$ROOT/{environment}"' in (ROOT / "scripts" / "setup.sh").read_text()


def test_no_block_is_left_out() -> None:
    """A new shell block needs a test above."""
    run = (
        "demo.sh",
        "scripts/test.sh",
        "activate",
        START,
        START_WORKERS,
        "vastar-runtime simulator",
        "check --config runtime.toml",
        "--config keys.toml",
    )
    assert sorted(SHELL) == sorted(map(shell_block, run))
