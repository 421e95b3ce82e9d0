"""The rooms of the source tree import only downwards.

Lowest first: errors, exact_json, regular_file, config ← telemetry ← http, policies ← metering ← connectors ← server ←
daemon ← workers ← cli; the simulator stands beside the daemon's rooms and only the commands know it.
``connector_sdk.wire`` knows nothing of either package.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What each room of vastar_runtime may import besides itself. "" is the package's own __init__.py: its version.
GROUND = {"", "errors", "exact_json", "regular_file", "config"}
BELOW_CONNECTORS = GROUND | {"telemetry", "http", "policies", "metering", "credentials"}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "errors": {""},
    "exact_json": set(),
    "regular_file": set(),
    "config": {"", "errors", "regular_file"},
    "telemetry": GROUND,
    "http": GROUND | {"telemetry"},
    "policies": GROUND | {"telemetry"},
    "metering": GROUND | {"telemetry", "http"},
    "credentials": GROUND | {"telemetry", "http"},
    "shared": GROUND | {"telemetry", "policies"},
    "connectors": BELOW_CONNECTORS,
    "server": BELOW_CONNECTORS | {"connectors"},
    "admin": GROUND | {"telemetry"},
    "daemon": BELOW_CONNECTORS | {"connectors", "server", "admin", "shared"},
    "workers": BELOW_CONNECTORS | {"connectors", "server", "admin", "daemon", "shared"},
    "simulator": GROUND | {"telemetry"},
    "cli": BELOW_CONNECTORS | {"connectors", "server", "admin", "daemon", "workers", "simulator"},
    "__main__": {"", "cli"},
}
WIRE_MAY_IMPORT = {*sys.stdlib_module_names, "flatbuffers", "msgspec"}


class Import(NamedTuple):
    """One imported module, and the place where it is asked for."""

    path: Path
    line: int
    importer: str
    target: str


def imports_of(root: Path) -> Iterator[Import]:
    """Every import of both packages under ``root``, wherever in a file it stands, with absolute names."""
    for package in ("connector_sdk", "vastar_runtime"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            importer = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
                for target in _targets(node, parts[:-1], root):
                    yield Import(path.relative_to(root), getattr(node, "lineno", 0), importer, target)


def _targets(node: ast.AST, package: tuple[str, ...], root: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = list(package[: len(package) - node.level + 1]) if node.level else []
        module = ".".join(base + ([node.module] if node.module else []))
        for alias in node.names:
            # "from package import name": the name may be a module of its own.
            inner = root.joinpath(*module.split("."), alias.name)
            yield f"{module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else module


def violations(root: Path) -> list[str]:
    """One line for each import that goes upwards: file, line, what it imports, and why it must not."""
    found = []
    for item in imports_of(root):
        reason = _objection(item.importer, item.target)
        if reason:
            found.append(f"{item.path}:{item.line}: {item.importer} imports {item.target}: {reason}")
    return found


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _objection(importer: str, target: str) -> str | None:
    if _is_in(importer, "connector_sdk"):
        if _is_in(target, "vastar_runtime"):
            return "the SDK never imports the daemon"
        if (
            _is_in(importer, "connector_sdk.wire")
            and not _is_in(target, "connector_sdk.wire")
            and target.split(".")[0] not in WIRE_MAY_IMPORT
        ):
            return "connector_sdk.wire imports the standard library, flatbuffers and msgspec only"
        return None
    room = _room(importer)
    if _is_in(target, "connector_sdk"):
        if _is_in(target, "connector_sdk.wire") or room == "cli":
            return None
        return "of the SDK the daemon imports connector_sdk.wire only; commands (cli) may use all of it"
    if not _is_in(target, "vastar_runtime"):
        return None
    if room not in MAY_IMPORT:
        return f"the room {room} has no place in the order yet; design it, then add it to MAY_IMPORT"
    if _room(target) in MAY_IMPORT[room] | {room}:
        return None
    allowed = ", ".join(sorted(MAY_IMPORT[room] - {""})) or "nothing"
    return f"{room or 'vastar_runtime/__init__.py'} may import {allowed} of this package"


def test_no_import_goes_upwards() -> None:
    found = violations(ROOT)
    assert not found, "imports against the order of the rooms:\n" + "\n".join(found)


def test_the_check_sees_the_imports_of_the_whole_tree() -> None:
    seen = {(item.importer, item.target) for item in imports_of(ROOT)}
    assert ("connector_sdk.wire.framing", "connector_sdk.wire.errors") in seen
    assert ("connector_sdk.wire.fields", "msgspec") in seen
    assert ("vastar_runtime.errors", "connector_sdk.wire.messages") in seen
    assert ("vastar_runtime.config.file", "vastar_runtime.errors") in seen


# --- the check itself, on small trees ---

MODULES = (
    "connector_sdk/__init__.py",
    "connector_sdk/client.py",
    "connector_sdk/wire/__init__.py",
    "connector_sdk/wire/framing.py",
    *(f"vastar_runtime/{room}/__init__.py" for room in ("http", "policies", "server", "simulator", "cli")),
    *(f"vastar_runtime/{module}.py" for module in ("__init__", "__main__", "errors", "config", "daemon")),
)


def tree_with(root: Path, file: str, source: str) -> Path:
    for module in (*MODULES, file):
        (root / module).parent.mkdir(parents=True, exist_ok=True)
        (root / module).write_text("")
    (root / file).write_text(source)
    return root


@pytest.mark.parametrize(
    ("file", "source", "wanted"),
    [
        (
            "connector_sdk/wire/framing.py",
            "import struct\nimport trio\n",
            "connector_sdk/wire/framing.py:2: connector_sdk.wire.framing imports trio: "
            "connector_sdk.wire imports the standard library, flatbuffers and msgspec only",
        ),
        (
            "connector_sdk/wire/framing.py",
            "from ..client import x\n",
            "connector_sdk/wire/framing.py:1: connector_sdk.wire.framing imports connector_sdk.client: "
            "connector_sdk.wire imports the standard library, flatbuffers and msgspec only",
        ),
        (
            "connector_sdk/client.py",
            "def f() -> None:\n    import vastar_runtime.config as c\n",
            "connector_sdk/client.py:2: connector_sdk.client imports vastar_runtime.config: "
            "the SDK never imports the daemon",
        ),
        (
            "vastar_runtime/server/session.py",
            "from connector_sdk import client\n",
            "vastar_runtime/server/session.py:1: vastar_runtime.server.session imports connector_sdk.client: "
            "of the SDK the daemon imports connector_sdk.wire only; commands (cli) may use all of it",
        ),
        (
            "vastar_runtime/http/pool.py",
            "from .. import errors\nfrom ..policies import Retry\n",
            "vastar_runtime/http/pool.py:2: vastar_runtime.http.pool imports vastar_runtime.policies: "
            "http may import config, errors, exact_json, regular_file, telemetry of this package",
        ),
        (
            "vastar_runtime/policies/retry.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import server\n",
            "vastar_runtime/policies/retry.py:3: vastar_runtime.policies.retry imports vastar_runtime.server: "
            "policies may import config, errors, exact_json, regular_file, telemetry of this package",
        ),
        (
            "vastar_runtime/daemon.py",
            "from .simulator import Simulator\n",
            "vastar_runtime/daemon.py:1: vastar_runtime.daemon imports vastar_runtime.simulator: "
            "daemon may import admin, config, connectors, credentials, errors, exact_json, http, metering, policies, "
            "regular_file, server, shared, telemetry of this package",
        ),
        (
            "vastar_runtime/simulator/app.py",
            "from vastar_runtime.http.pool import Pool\n",
            "vastar_runtime/simulator/app.py:1: vastar_runtime.simulator.app imports vastar_runtime.http.pool: "
            "simulator may import config, errors, exact_json, regular_file, telemetry of this package",
        ),
        (
            "vastar_runtime/errors.py",
            "from .config import Settings\n",
            "vastar_runtime/errors.py:1: vastar_runtime.errors imports vastar_runtime.config: "
            "errors may import nothing of this package",
        ),
        (
            "vastar_runtime/__init__.py",
            "from . import errors\n",
            "vastar_runtime/__init__.py:1: vastar_runtime imports vastar_runtime.errors: "
            "vastar_runtime/__init__.py may import nothing of this package",
        ),
        (
            "vastar_runtime/attic.py",
            "from . import errors\n",
            "vastar_runtime/attic.py:1: vastar_runtime.attic imports vastar_runtime.errors: "
            "the room attic has no place in the order yet; design it, then add it to MAY_IMPORT",
        ),
    ],
)
def test_an_import_upwards_is_named_with_file_and_line(tmp_path: Path, file: str, source: str, wanted: str) -> None:
    assert violations(tree_with(tmp_path, file, source)) == [wanted]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("connector_sdk/wire/__init__.py", "import struct\nimport flatbuffers.table\nfrom msgspec import json\n"),
        ("connector_sdk/wire/framing.py", "from . import messages\nfrom connector_sdk.wire import errors\n"),
        ("connector_sdk/client.py", "import anyio\nfrom .wire import framing\n"),
        ("vastar_runtime/server/session.py", "import trio\nfrom connector_sdk import wire\nfrom ..http import pool\n"),
        ("vastar_runtime/server/session.py", "from .outbox import Outbox\nfrom .. import __version__\n"),
        ("vastar_runtime/daemon.py", "from . import config, errors, server\n"),
        ("vastar_runtime/cli/demo.py", "from connector_sdk import client\nfrom ..simulator import app\n"),
        ("vastar_runtime/__main__.py", "from .cli import main\n"),
    ],
)
def test_an_import_downwards_is_not_named(tmp_path: Path, file: str, source: str) -> None:
    assert violations(tree_with(tmp_path, file, source)) == []
