"""A key that only the daemon has, and the part of its file that says where it is to go."""

from __future__ import annotations

import pytest

SECRET = "sk-PLANTED-7f3a9c41d2"
BOTH = pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])


def credential(origin: str, source: str, more: str = "", name: str = "key") -> str:
    return f"[[credential]]\nname = '{name}'\norigins = ['{origin}']\n{source}\n{more}\n"
