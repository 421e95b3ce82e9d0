"""A command line of ``request`` that is wrong: with ``--json`` it is told on standard output, too, as every end is."""

from contextlib import suppress
from typing import Any

import click

from .exit_codes import CommandFailed, ExitCode
from .json_failure import is_json_among
from .request_output import checked_output
from .request_report import Report, failure_of


class RequestCommand(click.Command):
    """See the module."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)  # which the parser takes apart
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            # What is wrong may be why nothing is known of the options: they are looked for as they were written.
            if is_json_among(given):
                _write(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.params["as_json"]:
                _write(error)
            raise


def _write(error: click.UsageError) -> None:
    told = CommandFailed(ExitCode.USAGE, " ".join(error.format_message().split()))
    with suppress(CommandFailed):  # the mistake is told on standard error in any case
        output = checked_output(None, is_prompt=True)
        Report(exit_code=told.exit_code, duration_ms=0, error=failure_of(told)).write(output)
