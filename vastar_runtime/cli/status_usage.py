"""What ``status`` says of where usage is kept."""

from typing import Any

import click

from .printing import printable

_MAX_REASON_CHARACTERS = 4096


def print_usage_not_kept(statistics: dict[str, Any]) -> None:
    """A line, where the daemon keeps none."""
    reason = statistics.get("usage_not_kept")
    if isinstance(reason, str):
        click.echo(f"   Usage: not kept: {printable(reason, _MAX_REASON_CHARACTERS)}")
