"""What importing the SDK costs and gives."""

from __future__ import annotations

import subprocess
import sys

import connector_sdk
import connector_sdk.openai

HEAVY = ("click", "trio", "anyio", "httpx", "httpx2", "h11", "starlette", "hypercorn", "yaml", "vastar_runtime")


def test_every_public_name_is_there() -> None:
    assert [name for name in connector_sdk.__all__ if not hasattr(connector_sdk, name)] == []


def test_the_import_is_light() -> None:
    """A program that uses the SDK does not load what only the daemon needs."""
    code = f"import sys, connector_sdk, connector_sdk.openai; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == "[]"
