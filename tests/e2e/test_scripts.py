"""The scripts, called as existing users call them: through the links at the root, from anywhere.

They find the command of the environment that these tests run in, so that no test builds an environment.
"""

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_place import ROOT, Place, place, runtimes_under
from packaging.requirements import Requirement

SCRIPTS = ROOT / "scripts"


@pytest.fixture
def runtime() -> Iterator[Place]:
    with place() as opened:
        commands = opened.directory / "bin"
        commands.mkdir()
        command = commands / "vastar-runtime"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vastar_runtime "$@"\n')
        command.chmod(0o755)
        opened.environ["PATH"] = f"{commands}:/usr/bin:/bin"
        yield opened


def call(runtime: Place, script: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script], capture_output=True, text=True, env=runtime.environ | environ, cwd="/", timeout=50, check=False
    )


def test_the_links_at_the_root_lead_to_the_scripts() -> None:
    for name in ("start_runtime.sh", "clean_vcr.sh"):
        assert os.readlink(ROOT / name) == f"scripts/{name}"
    for path in [*SCRIPTS.glob("*.sh"), ROOT / ".ci" / "run"]:
        assert bool(path.stat().st_mode & stat.S_IXUSR) is (path.name != "setup.sh"), path  # that one is sourced
        subprocess.run(["bash", "-n", path], check=True)


def test_start_replaces_an_old_instance_and_clean_leaves_nothing(runtime: Place) -> None:
    """Through a link to the link at the root, from the root directory."""
    link = runtime.directory / "link.sh"
    link.symlink_to(ROOT / "start_runtime.sh")
    pids = []
    for _ in range(2):
        started = call(runtime, link)
        [pid] = runtimes_under(runtime.directory)
        pids.append(pid)
        assert (started.returncode, started.stderr) == (0, "")
        assert started.stdout == f"✅ Runtime started (PID: {pid})\n   Socket: {runtime.socket}\n"
    assert pids[0] != pids[1]
    assert runtime.run("status").returncode == 0

    cleaned = call(runtime, ROOT / "clean_vcr.sh")
    assert cleaned.returncode == 0
    assert cleaned.stdout == f"Stopped the runtime (PID {pids[1]})\nRemoved the log {runtime.log}\n"
    assert runtimes_under(runtime.directory) == []
    assert not runtime.log.exists()
    assert not runtime.socket.exists()

    again = call(runtime, ROOT / "clean_vcr.sh")
    nothing = f"Nothing to clean up: no runtime on {runtime.socket}, no socket, no log\n"
    assert (again.returncode, again.stdout) == (0, nothing)


def test_only_the_runtime_on_this_socket_is_cleaned_up(runtime: Place) -> None:
    with place() as other:
        assert other.run("start").returncode == 0
        assert call(runtime, ROOT / "start_runtime.sh").returncode == 0
        assert call(runtime, ROOT / "clean_vcr.sh").returncode == 0
        assert other.run("status").returncode == 0


def test_a_start_that_fails_shows_why_and_the_log(runtime: Place) -> None:
    path = str(runtime.directory / "missing" / "vastar.sock")
    failed = call(runtime, ROOT / "start_runtime.sh", VASTAR_SOCKET_PATH=path)
    assert failed.returncode == 1
    lines = failed.stdout.splitlines()
    assert lines[0] == "❌ Failed to start runtime"
    assert lines[1].startswith(f"Error: cannot listen on {path}: No such file or directory")
    assert lines[2] == f"{runtime.log}:"
    assert lines[3:] == runtime.log.read_text().splitlines()
    assert len(lines) > 3


def test_a_start_with_a_log_that_is_a_link_does_not_read_it(runtime: Place) -> None:
    secret = runtime.directory / "secret"
    secret.write_text("do not show")
    runtime.log.symlink_to(secret)
    failed = call(runtime, ROOT / "start_runtime.sh")
    assert failed.returncode == 1
    assert "it is a symbolic link" in failed.stdout
    assert "do not show" not in failed.stdout


def test_a_machine_without_venv_is_told_what_to_install(tmp_path: Path) -> None:
    """A copy of the scripts, and nothing but the named programs on PATH."""
    scripts = tmp_path / "project" / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "readlink", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or "")
    environ = {"PATH": str(programs)}

    def demo() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / "bash", scripts / "demo.sh"], capture_output=True, text=True, env=environ, check=False
        )

    none = demo()
    assert none.returncode == 1
    assert none.stderr.startswith("Error: Python 3.11 or later is needed and was not found")

    python = programs / "python3.11"
    python.write_text(f"#!{programs}/bash\n[[ $2 != *ensurepip* ]]\n")
    python.chmod(0o755)
    halved = demo()
    assert halved.returncode == 1
    assert halved.stderr == ("Error: python3.11 cannot make virtual environments; run: apt-get install python3-venv\n")


@pytest.mark.parametrize(("name", "extras"), [("requirements.lock", []), ("requirements-dev.lock", ["dev"])])
def test_a_lock_file_has_names_versions_and_hashes_and_fits_the_project(name: str, extras: list[str]) -> None:
    text = (SCRIPTS / name).read_text()
    pinned = {}
    for entry in re.split(r"\n(?=\S)", text.rstrip("\n")):
        requirement, *hashes = entry.split(" \\\n    ")
        matched = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([A-Za-z0-9.]+)( ; .+)?", requirement)
        assert matched, entry
        assert hashes, entry
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", piece) for piece in hashes), entry
        pinned[matched[1]] = matched[2]
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[requirement.name.lower()], prereleases=True), text


def test_the_development_lock_names_the_extras_that_its_packages_ask_for() -> None:
    """pip takes "coverage[toml]" for something that a lock without "[toml]" does not pin."""
    locked = {}
    for line in (SCRIPTS / "requirements-dev.lock").read_text().splitlines():
        if "==" in line:
            requirement = Requirement(line.removesuffix(" \\"))
            locked[requirement.name] = requirement.extras
    asked = [
        (distribution.name, Requirement(text))
        for distribution in importlib.metadata.distributions()
        if distribution.name.lower() in locked
        for text in distribution.requires or ()
    ]
    found = {
        (requirement.name, extra)
        for _, requirement in asked
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        for extra in requirement.extras
    }
    assert ("coverage", "toml") in found  # pytest-cov asks for it
    assert {(name, extra) for name, extra in found if extra not in locked[name]} == set()
