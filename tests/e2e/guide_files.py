"""Files that the guides show, each checked for what it is for."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import yaml
from guide_blocks import ROOT, commands_in

from connector_sdk.openai import OpenAIConnector
from vastar_runtime import config
from vastar_runtime.cli import _group
from vastar_runtime.errors import ConfigError
from vastar_runtime.simulator import existing_config

PROGRAM = "vastar-runtime"


def check_commands(text: str, place: str) -> None:
    """Every command of this project in a text has the options that it is shown with."""
    for line in commands_in(text, PROGRAM):
        words = shlex.split(line)
        context = _group.make_context(PROGRAM, [], resilient_parsing=True)
        command: click.Command = _group
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words.pop(0))
            assert found is not None, f"{place}: no such command: {line}"
            command = found
            context = click.Context(command, parent=context)
        if {"-h", "--help", "--version"} & set(words):
            continue
        try:
            if not isinstance(command, click.Group):
                command.make_context(command.name, words, parent=context.parent)
        except (click.ClickException, ConfigError) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            raise AssertionError(f"{place}: {line}: {message}") from error


def check_file(path: Path, place: str) -> None:
    """A file is what its name says; one that no check knows is an error."""
    for pattern, check in _CHECKS:
        if fnmatch(path.name, pattern):
            check(path, place)
            return
    raise AssertionError(f"{place}: nothing here knows how to check {path.name}")


def _runtime_toml(path: Path, place: str) -> None:
    mistakes = config.examine({}, config_path=str(path)).mistakes
    assert not mistakes, f"{place}: {[mistake.text for mistake in mistakes]}"


def _connector_yaml(path: Path, _place: str) -> None:
    OpenAIConnector.from_config(path, environ={"OPENAI_API_KEY": "sk-4711", "AZURE_OPENAI_API_KEY": "4711"}).close()


def _simulator_yml(path: Path, _place: str) -> None:
    existing_config.read(str(path))


def _python(path: Path, _place: str) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def _text(path: Path, place: str) -> None:
    assert path.read_text(encoding="utf-8").strip(), place


# --- systemd ---


def _unit(path: Path, place: str) -> None:
    text = path.read_text(encoding="utf-8")
    check_commands(text, place)
    _check_variables(set(re.findall(r"VASTAR_[A-Z_]+", text)), place)
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=["="])
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    if path.suffix == ".conf":  # a part of another unit
        assert set(unit.sections()) <= {"Unit", "Service"}, place
        return
    assert "ExecStart" in unit["Service"], place
    if shutil.which("systemd-analyze") is None:
        return
    # A program that this machine has, and no user that it has not.
    there = path.with_name(f"checked-{path.name}")
    programs = {word for value in unit["Service"].values() for word in value.split() if word.endswith(f"/{PROGRAM}")}
    for program in programs:
        text = text.replace(program, "/bin/true")
    there.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(there)], capture_output=True, text=True, timeout=30, check=False
    )
    told = [line for line in done.stderr.splitlines() if there.name in line]
    assert (done.returncode, told) == (0, []), f"{place}: {done.stderr}"


# --- containers ---


def _dockerfile(path: Path, place: str) -> None:
    text = path.read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "ENTRYPOINT", "CMD", "EXPOSE", "VOLUME", "STOPSIGNAL"}
    _check_variables(set(re.findall(r"VASTAR_[A-Z_]+", text)), place)
    assert {line[0] for line in lines} - known - {"HEALTHCHECK"} == set(), place
    for instruction, *rest in lines:
        if instruction == "COPY":
            for source in [word for word in rest[0].split()[:-1] if not word.startswith("--")]:
                assert (ROOT / source).exists(), f"{place}: there is no {source}"
        if instruction in ("ENTRYPOINT", "CMD"):
            check_commands(" ".join(yaml.safe_load(rest[0])), place)
        if instruction == "HEALTHCHECK":
            check_commands(rest[0], place)


def _manifests(path: Path, place: str) -> None:
    """Containers of Kubernetes or of Compose: their commands, their variables, the volumes that they mount."""
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        for pod in _pods(document):
            volumes = {volume["name"] for volume in pod.get("volumes", [])}
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, place
                for command in _commands(container):
                    check_commands(shlex.join(command), place)
                _check_variables({each["name"] for each in container.get("env", [])}, place)
        for service in (document.get("services") or {}).values():
            check_commands(shlex.join(service.get("command", [])), place)
            check_commands(shlex.join(service.get("healthcheck", {}).get("test", [])), place)
            _check_variables(set(service.get("environment", {})), place)


def _pods(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "containers" in tree:
            yield tree
        for value in tree.values():
            yield from _pods(value)


def _commands(tree: Any) -> Iterator[list[str]]:
    """Lists of words, wherever they are called command or args."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("command", "args"):
                yield value if value[0].endswith(PROGRAM) else [PROGRAM, *value]
            else:
                yield from _commands(value)


def _check_variables(names: set[str], place: str) -> None:
    known = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    for name in names:
        assert not name.startswith("VASTAR_") or f"`{name}`" in known, f"{place}: {name}"


_CHECKS: list[tuple[str, Callable[[Path, str], None]]] = [
    ("Dockerfile", _dockerfile),
    ("pod.yaml", _manifests),
    ("compose.yaml", _manifests),
    ("config.yml", _simulator_yml),
    ("config.yaml", _connector_yaml),
    ("azure.yaml", _connector_yaml),
    ("*.service", _unit),
    ("*.conf", _unit),
    ("*.toml", _runtime_toml),
    ("*.py", _python),
    ("*.md", _text),
    ("*.txt", _text),
]
