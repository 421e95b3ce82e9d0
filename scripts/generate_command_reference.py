#!/usr/bin/env python3
"""Generate docs/command-line.md from the commands themselves; with --check, only say whether it is stale."""

import argparse
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from vastar_runtime.cli import _group
from vastar_runtime.cli.exit_codes import MEANINGS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"
PROGRAM = "vastar-runtime"

_HEAD = """\
# The command line

<!-- Made by scripts/generate_command_reference.py; what is changed here by hand is lost. -->

Everything that there is to do with the daemon, in one command, `vastar-runtime`. An error is one line on standard
error. Colour there is only on a terminal. What a script would read has `--json`; a command that fails with it prints
one object on standard output besides that line, `{"error": "…", "exit_code": N}` (`request` has a form of its own);
one that Ctrl-C ends, or that a Python package is missing for, prints none. An answer that says what is wrong (of
`status`, `reload`, `config check`, `doctor`) is no such failure. `--help` of each command shows what stands here.

A request as the daemon makes it, to see what an application would get:

```sh
vastar-runtime request http://127.0.0.1:4545/health
```

<!-- output -->
```text
{"status":…}
```

A script goes by the [exit code](#exit-codes):

```sh
vastar-runtime request --fail --silent http://127.0.0.1:4545/no-such-path || echo "exit code $?"
```

<!-- output -->
```text
…exit code 22
```

A conversation with a model; from a pipe, each line is a question, and what it used is said on standard error:

```sh
echo "What is streaming?" | vastar-runtime chat --base-url http://127.0.0.1:4545 --system "Be brief."
```

<!-- output -->
```text
…
gpt-4o-mini: 1 request, …
```
"""

_EXIT_CODES = """
## Exit codes

The same for all commands; each has only those that can happen to it.

| code | |
| --- | --- |
"""


Named = tuple[list[str], click.Command]


def commands() -> Iterator[Named]:
    """Every command that is not hidden, with its words; those of a group follow it."""
    context = click.Context(_group, info_name=PROGRAM)
    yield from _commands(_group, context, [])


def _commands(
    group: click.Group, context: click.Context, words: list[str]
) -> Iterator[tuple[list[str], click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        here = [*words, name]
        yield here, command
        if isinstance(command, click.Group):
            yield from _commands(command, context, here)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for words, command in commands():
        parts += _section(words, command)
    codes = "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in MEANINGS.items())
    return "\n".join(parts) + _EXIT_CODES + codes


def _section(words: list[str], command: click.Command) -> Iterator[str]:
    yield from (f"{'#' * (len(words) + 1)} {' '.join(words)}", "")
    yield from _help(command)
    context = click.Context(command)
    arguments = [_shown_argument(each) for each in command.params if isinstance(each, click.Argument)]
    if arguments:
        yield from (f"Arguments: {', '.join(f'`{argument}`' for argument in arguments)}.", "")
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        yield from ("| option | |", "| --- | --- |")
        for option in options:
            record = option.get_help_record(context)
            assert record is not None, f"{words}: {option.name} has no help"
            names = "`, `".join([*option.opts, *option.secondary_opts])
            value = record[0].rsplit(option.opts[-1], 1)[-1].strip()
            yield f"| `{names}`{f' `{value}`' if value else ''} | {_escaped(record[1])} |".replace("` `", " ", 1)
        yield ""
    if command.epilog:
        example = command.epilog.partition("Example: ")[2]
        assert example, f"{' '.join(words)} has no example"
        yield from (f"Example: `{example}`", "")


def _help(command: click.Command) -> Iterator[str]:
    """Its paragraphs; those that click does not wrap are shown as they are."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield from (f"    {line}".rstrip() for line in paragraph.lstrip("\b").strip("\n").splitlines())
        else:
            yield _escaped(" ".join(paragraph.split()))
        yield ""


def _shown_argument(argument: click.Argument) -> str:
    name = argument.make_metavar(click.Context(click.Command("x")))
    return name.strip("[]") if argument.required else name


# Options, variables, addresses and paths, and what options begin their values with.
_CODE = re.compile(r"(--?[a-zA-Z][\w-]*|[A-Z]+_[A-Z_*]+|[@&]|https?://\S+?|[~/][\w./-]*\w)([.,:;)\]]*)")


def _escaped(text: str) -> str:
    """Text with its names as code, and nothing that Markdown would take for its own."""
    shown = []
    for word in re.split(r"(\s+)", text.replace("  ", " ")):
        found = _CODE.fullmatch(word)
        shown.append(f"`{found[1]}`{found[2]}" if found else re.sub(r"([*_<>|])", r"\\\1", word))
    return "".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is stale")
    is_check = parser.parse_args().check
    os.environ.pop("COLUMNS", None)
    wanted = page()
    if not is_check:
        PAGE.write_text(wanted, encoding="utf-8")
        print(f"wrote docs/{PAGE.name}")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit(f"Error: stale: docs/{PAGE.name}; run: python scripts/generate_command_reference.py")
    else:
        print(f"docs/{PAGE.name} is up to date")


if __name__ == "__main__":
    main()
