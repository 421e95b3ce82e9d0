"""The command line in this process, from the words of a shell to the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from click.testing import CliRunner, Result

from vastar_runtime import cli


class _Console:
    """``cli.main`` where click's runner wants a command."""

    name = cli.NAME

    def main(self, args: Sequence[str], **_: Any) -> None:
        cli.main(args)


def run(*arguments: str, data: bytes = b"", environ: Mapping[str, str | None] | None = None) -> Result:
    """What a command says, and how it ends."""
    return CliRunner().invoke(_Console(), arguments, input=data, env=environ)  # type: ignore[arg-type]
