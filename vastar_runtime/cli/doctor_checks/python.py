"""The interpreter, and the packages that this one needs."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from vastar_runtime import __version__
from vastar_runtime.cli.printing import counted

from .circumstances import Circumstances
from .finding import Finding, listed, not_checked, ok, problem, warning

DISTRIBUTION = "vastar-runtime"
OLDEST_PYTHON = (3, 11)

_ROOT = Path(__file__).parents[3]
# Of a package whose module has another name.
_MODULES = {"pyyaml": "yaml"}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:>=([0-9.]+))?")


def check_python(_seen: Circumstances) -> Iterator[Finding]:
    """The interpreter's version and system."""
    yield python_version(sys.version_info[:3], sys.platform, sys.executable)


def python_version(version: tuple[int, ...], platform: str, executable: str) -> Finding:
    """
    Args:
        version: such as (3, 11, 7).
        platform: as ``sys.platform``.
    """
    shown = f"{'.'.join(map(str, version))} ({executable})"
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if version < OLDEST_PYTHON:
        return problem("Python", f"{shown} is older than {oldest}", f"install {DISTRIBUTION} with Python {oldest}")
    if not platform.startswith("linux"):
        return warning("Python", f"{shown} on {platform}: only Linux is supported", "run it on Linux or in a container")
    return ok("Python", shown)


def check_packages(seen: Circumstances) -> Iterator[Finding]:
    """Whether all that is needed can be imported, and is new enough."""
    try:
        installed, requirements = metadata.version(DISTRIBUTION), metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield not_checked("packages", f"{DISTRIBUTION} is not installed; it runs from {_ROOT}")
        return
    yield packages(requirements)
    if installed != __version__:
        yield warning(
            "installation",
            f"the files in {_ROOT} are of version {__version__}, and what pip knows of is {installed}",
            "two installations are mixed: install it again",
        )
    if seen.settings.shared_limits.backend is not None and _installed("coredis") is None:
        yield problem(
            "packages for Redis",
            "shared_limits.backend is set, and coredis is not installed: the daemon does not start",
            command=_pip(f"{DISTRIBUTION}[redis]"),
        )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _import_error(name: str) -> str | None:
    """Why a package cannot be used; None: it can."""
    module = _MODULES.get(name.lower(), name.replace("-", "_"))
    try:
        importlib.import_module(module)
    except Exception as error:  # a package may raise anything while it is imported
        return f"{type(error).__name__}: {error}"
    return None


def packages(
    requirements: Iterable[str],
    version_of: Callable[[str], str | None] = _installed,
    import_error: Callable[[str], str | None] = _import_error,
) -> Finding:
    """
    Args:
        requirements: as the package's metadata has them (PEP 508); those of extras are passed over.
        version_of: the version of an installed package; None: it is not installed.
        import_error: why it cannot be imported; None: it can.
    """
    wrong: list[str] = []
    to_install: list[str] = []
    count = 0
    for requirement in requirements:
        match = None if ";" in requirement else _REQUIREMENT.match(requirement)
        if match is None:
            continue
        count += 1
        name, oldest = match[1], match[2] or "0"
        version = version_of(name)
        if version is None:
            wrong.append(f"{name} is missing")
        elif _numbers(version) < _numbers(oldest):
            wrong.append(f"{name} {version} is older than {oldest}")
        elif (reason := import_error(name)) is not None:
            wrong.append(f"{name} {version} cannot be imported ({reason})")
        else:
            continue
        to_install.append(requirement)
    if wrong:
        return problem("packages", listed(wrong, 5), command=_pip("--upgrade", "--force-reinstall", *to_install))
    return ok("packages", f"the {counted(count, 'package')} that it needs can be imported")


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version, without zeros at its end: "4.12.0" is "4.12"."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and not numbers[-1]:
        del numbers[-1]
    return tuple(numbers)


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
