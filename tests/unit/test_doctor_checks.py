"""What the doctor says of Python, variables and the configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_circumstances import one, seen, told

from vastar_runtime.cli.doctor_checks.configuration import check_configuration, check_configuration_access
from vastar_runtime.cli.doctor_checks.credential_sources import check_credential_sources
from vastar_runtime.cli.doctor_checks.finding import State
from vastar_runtime.cli.doctor_checks.python import packages, python_version
from vastar_runtime.cli.doctor_checks.variables import check_variables

# --- Python and packages ---


def test_a_python_that_is_too_old_and_a_system_that_is_another() -> None:
    assert python_version((3, 11, 0), "linux", "/py").state is State.OK
    old = python_version((3, 9, 18), "linux", "/usr/bin/python3")
    assert told(old) == (State.PROBLEM, "3.9.18 (/usr/bin/python3) is older than 3.11")
    assert python_version((3, 12, 1), "darwin", "/py").state is State.WARNING


def test_packages_that_are_missing_old_or_broken_are_named_and_the_command_installs_them() -> None:
    versions = {"trio": "0.30", "h11": "0.9.0", "hypercorn": "0.17.0", "brotli": "1.2.0"}
    broken = {"brotli": "ImportError: _brotli.so: wrong ELF class"}
    needed = [
        "trio>=0.30.0",
        "h11>=0.16",
        "hypercorn[trio]>=0.17",
        "brotli>=1.2",
        "msgspec>=0.20",
        'x>=1; extra == "y"',
    ]
    finding = packages(needed, versions.get, broken.get)
    assert told(finding) == (
        State.PROBLEM,
        "h11 0.9.0 is older than 0.16, brotli 1.2.0 cannot be imported (ImportError: _brotli.so: wrong ELF class), "
        "msgspec is missing",
    )
    assert finding.command is not None
    assert finding.command.endswith(
        " -m pip install --upgrade --force-reinstall 'h11>=0.16' 'brotli>=1.2' 'msgspec>=0.20'"
    )
    assert packages(needed[:1], versions.get, broken.get).found == "the 1 package that it needs can be imported"


# --- variables ---


@pytest.mark.parametrize(
    ("variables", "name", "state", "found", "command"),
    [
        (
            {"VASTAR_SOKET_PATH": "/x"},
            "variable VASTAR_SOKET_PATH",
            State.WARNING,
            "nothing reads it; VASTAR_SOCKET_PATH is set, and is what counts",
            "unset VASTAR_SOKET_PATH",
        ),
        (
            {"VASTAR_TIMOUT": "5"},
            "variable VASTAR_TIMOUT",
            State.PROBLEM,
            "nothing reads it: the variable is called VASTAR_TIMEOUT",
            'export VASTAR_TIMEOUT="$VASTAR_TIMOUT"; unset VASTAR_TIMOUT',
        ),
        (
            {"vastar_workers": "5"},
            "variable vastar_workers",
            State.PROBLEM,
            "nothing reads it: the variable is called VASTAR_WORKERS",
            'export VASTAR_WORKERS="$vastar_workers"; unset vastar_workers',
        ),
        (
            {"VASTAR_USE_TCP": "yes"},
            "variable VASTAR_USE_TCP",
            State.PROBLEM,
            "'yes' is neither true nor false; with it the daemon does not start and no client starts",
            "unset VASTAR_USE_TCP",
        ),
        (
            {"VASTAR_USE_TCP": "true", "VASTAR_TCP_PORT": "tcp://10.0.0.7:5000"},
            "variable VASTAR_TCP_PORT",
            State.PROBLEM,
            "'tcp://10.0.0.7:5000' comes from Kubernetes, for a service of that name; "
            "with it the daemon does not start and no client starts",
            "unset VASTAR_TCP_PORT",
        ),
        (
            {"VASTAR_TCP_HOST": "10.0.0.7"},
            "variable VASTAR_TCP_HOST",
            State.WARNING,
            "it has no effect, since VASTAR_USE_TCP is not true",
            "unset VASTAR_TCP_HOST",
        ),
        (
            {"VASTAR_SOCKET_PATH": "run/s"},
            "variable VASTAR_SOCKET_PATH",
            State.WARNING,
            "'run/s' is relative: in another directory it is another one",
            'export VASTAR_SOCKET_PATH="$PWD/$VASTAR_SOCKET_PATH"',
        ),
        (
            {"VASTAR_CONFIG": "~/runtime.toml"},
            "variable VASTAR_CONFIG",
            State.PROBLEM,
            None,
            'export VASTAR_CONFIG="$HOME${VASTAR_CONFIG#"~"}"',
        ),
        ({"VASTAR_X\x1b[2J": "1"}, "variable 'VASTAR_X\\x1b[2J'", State.WARNING, None, None),
    ],
)
def test_variables_that_are_malformed_unknown_or_idle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    name: str,
    state: State,
    found: str | None,
    command: str | None,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    finding = one(check_variables(seen(tmp_path, variables)))
    assert (finding.name, finding.state, finding.command) == (name, state, command)
    assert found is None or finding.found == found


def test_what_kubernetes_sets_for_services_is_nobodys_mistake(tmp_path: Path) -> None:
    links = {
        "VASTAR_RUNTIME_SERVICE_HOST": "10.0.0.7",
        "VASTAR_RUNTIME_SERVICE_PORT_HTTP": "80",
        "VASTAR_RUNTIME_PORT": "tcp://10.0.0.7:80",
        "VASTAR_RUNTIME_PORT_80_TCP_ADDR": "10.0.0.7",
        "VASTAR_WORKERS": "2",
    }
    finding = one(check_variables(seen(tmp_path, links)))
    assert told(finding) == (State.OK, "VASTAR_CONFIG, VASTAR_SOCKET_PATH, VASTAR_WORKERS can be used")


# --- configuration ---


def test_the_first_mistakes_of_the_file_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "my runtime.toml"
    path.write_text('[policy.retry]\nmax_retry = 1\n[policy.rate_limit]\nper_tenant = "1"\n[a]\n[b]\n[c]\n')
    findings = list(check_configuration(seen(tmp_path, config_path=str(path))))
    assert [finding.state for finding in findings] == [State.PROBLEM] * 4
    assert findings[0].found == f"{path}:2: policy.retry.max_retry: unknown key; did you mean max_retries?"
    assert findings[3].found == "2 more mistakes in it"
    assert findings[0].command == f"vastar-runtime config check --config '{path}'"


def test_a_file_that_is_named_and_not_there(tmp_path: Path) -> None:
    finding = one(check_configuration(seen(tmp_path, {"VASTAR_CONFIG": str(tmp_path / "none.toml")})))
    assert finding.state is State.PROBLEM
    assert finding.found.startswith(f"cannot read {tmp_path}/none.toml: No such file")
    assert finding.command == "vastar-runtime config check"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that all users of the machine can look into; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_a_file_that_anybody_may_change(tmp_path: Path, open_directory: Path) -> None:
    path = open_directory / "runtime.toml"
    path.write_text("[policy.retry]\nmax_retries = 1\n")
    for mode, state, command in ((0o646, State.PROBLEM, f"chmod o-w {path}"), (0o644, State.OK, None)):
        path.chmod(mode)
        finding = one(check_configuration_access(seen(tmp_path, {"VASTAR_CONFIG": str(path)})))
        assert (finding.state, finding.command) == (state, command)


def test_where_credentials_come_from_is_looked_at_and_none_is_read(open_directory: Path) -> None:
    tmp_path = open_directory
    texts = {"open": "s3cr3t", "empty": "", "closed": "s3cr3t"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    sources = [f'file = "{tmp_path}/{name}"' for name in (*texts, "missing")]
    sources += [f'command = ["{tmp_path}/closed"]', 'env = "KEY_OF_NOBODY"', f'file = "{tmp_path}"']
    path = tmp_path / "runtime.toml"
    path.write_text(
        "".join(
            f'[[credential]]\nname = "c{number}"\norigins = ["https://{number}.example.com"]\n{source}\n'
            for number, source in enumerate(sources)
        )
    )
    findings = {f.name: f for f in check_credential_sources(seen(tmp_path, {"VASTAR_CONFIG": str(path)}))}
    assert {name: (f.state, f.command) for name, f in findings.items()} == {
        "credential c0": (State.WARNING, f"chmod o-rw {tmp_path}/open"),
        "credential c1": (State.PROBLEM, None),
        "credential c3": (State.PROBLEM, None),
        "credential c4": (State.PROBLEM, f"chmod +x {tmp_path}/closed"),
        "credential c5": (State.WARNING, None),
        "credential c6": (State.PROBLEM, None),
    }
    assert findings["credential c1"].found == f"{tmp_path}/empty is empty"
    assert "s3cr3t" not in str(findings)
    open_directory.chmod(0o700)  # nobody else comes that far
    names = [f.name for f in check_credential_sources(seen(tmp_path, {"VASTAR_CONFIG": str(path)}))]
    assert names == ["credential c1", "credential c3", "credential c4", "credential c5", "credential c6"]
