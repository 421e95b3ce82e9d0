"""Credentials that run, and what tests ask of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from vastar_runtime.config import Credential
from vastar_runtime.credentials import CredentialError, Credentials, CredentialStatistics, Injection

ORIGIN = "https://api.example"


def credential(name: str = "a", **changes: Any) -> Credential:
    """One whose header's value is the secret alone."""
    return Credential(name=name, **{"origins": (ORIGIN,), "header": f"x-{name}", **changes})


@asynccontextmanager
async def running(*credentials: Credential, environ: Mapping[str, str] = os.environ) -> AsyncIterator[Credentials]:
    """Credentials, configured and kept current."""
    found = Credentials(environ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run)
        await found.configure(credentials)
        yield found
        nursery.cancel_scope.cancel()


def injection(credentials: Credentials, name: str = "a") -> Injection:
    (found,) = [found for found in credentials.for_request("tenant", ORIGIN) if found.name == name]
    return found


def value(credentials: Credentials, name: str = "a") -> str | None:
    found = injection(credentials, name).value()
    return None if found is None else found.decode()


def state(credentials: Credentials, name: str = "a") -> CredentialStatistics:
    (found,) = [found for found in credentials.statistics() if found.name == name]
    return found


async def refusal(credentials: Credentials, name: str = "a") -> str:
    """What a request is told, after the credential's name."""
    with pytest.raises(CredentialError) as caught:
        await injection(credentials, name).ready()
    before, separator, problem = str(caught.value).partition(f"credential '{name}' cannot be used: ")
    assert (before, bool(separator)) == ("", True)
    return problem


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


def write_long_ago(path: Path, content: str) -> None:
    """In the place of what is there, in one step; with a time at which nobody can be writing it now."""
    other = path.with_name(path.name + ".new")
    other.write_text(content)
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.rename(path)


def is_running(pid: int) -> bool:
    """Not one that has ended and that nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
