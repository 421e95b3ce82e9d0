#!/usr/bin/env python3
"""Generate docs/configuration.md from the types of the settings; with --check, only say whether it is stale.

What a key means is taken from where it is written: config/example.toml, above the key or in the list above its table,
else the docstring of its type. What it may be set to is what its reader says to a wrong value.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vastar_runtime.config.check import check
from vastar_runtime.config.policy import Rate
from vastar_runtime.config.settings import Scope, Settings, fields_of, item_type, needs_restart
from vastar_runtime.config.values import MAX_DURATION_MS, read_value, write_value

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_HEAD = """\
# Configuration reference

<!-- Made by scripts/generate_config_reference.py; what is changed here by hand is lost. -->

Every key of the configuration file: what it may be set to, its default, and what it means. The file is TOML. A daemon
without one runs with the defaults. `vastar-runtime config example` prints a file with every key at its default, and
explained; `vastar-runtime config check` finds every mistake in yours, and `vastar-runtime config explain` tells which
keys hold for a request, and which line of the file each comes from.

**Which file.** `--config PATH`, else `VASTAR_CONFIG`, else `/etc/vastar/runtime.toml` if it exists, else none.

**Over the file.** Environment variables go over the file, flags over both. Which key has one is said in its table. The
daemon reads the environment that it was started in.

**Units.** Milliseconds are a whole number from 1 to 315360000000 (10 years); the key ends in `_ms`. A rate is a string:
`"100/s"`, `"60/min"`, `"1000/h"`. `"none"` means: no limit, unless the key says otherwise.

**Reload.** `vastar-runtime reload` (or SIGHUP) reads the file again. Tables that need a restart instead say so;
`reload` names the keys that have changed there and wait for it.

**Scopes.** The tables of `[policy]` hold for every request; a [`[[scope]]`](#scope) changes keys of theirs for a
tenant, for an origin, or for both. Keys about all requests of a tenant, or all to an origin, may not stand in every
scope: their table has a column for that.
"""

# What neither the example nor a docstring says of one key alone.
_MEANINGS: dict[tuple[str, ...], str] = {
    ("price", "prompt_per_million"): "what a million tokens of the prompt cost",
    ("price", "completion_per_million"): "what a million tokens of the answer cost",
    ("budget", "tokens"): "so many tokens; a budget has this or cost",
    ("budget", "cost"): "so much money; a budget has this or tokens",
    ("scope", "tenant"): "exactly this tenant id; left out: every tenant",
    ("scope", "origin"): "a pattern of the origin, as above; left out: every origin",
}


# Text that goes on from one key to the next, or says only what holds without the key.
_PART = re.compile(r"^\.\.\.|\.\.\.$|; or$|^left out:")
_ABOUT_EXAMPLE = "until the # before each line is taken away"

# What the head of the page explains.
_SHORTER = {
    f"a whole number of milliseconds from 1 to {MAX_DURATION_MS} (10 years)": "milliseconds",
    'a string such as "100/s", "60/min" or "1000/h", its number': "a rate, its number",
}


class Key(NamedTuple):
    """One key of a table.

    Attributes:
        allowed: what it may be set to, in words, its unit with them.
        default: as the file would have it; None: it must be set.
        meaning: in Markdown.
        also_set_by: variables and flags; "" for none.
        scopes: where in scopes it may stand; "" outside of [policy].
    """

    name: str
    allowed: str
    default: str | None
    meaning: str
    also_set_by: str
    scopes: str


class Table(NamedTuple):
    """One table of the file.

    Attributes:
        path: ``("policy", "retry")``.
        is_array: there may be any number of them.
        intro: paragraphs of Markdown.
        needs_restart: a reload changes nothing of it.
    """

    path: tuple[str, ...]
    is_array: bool
    intro: list[str]
    needs_restart: bool
    keys: list[Key]

    @property
    def header(self) -> str:
        name = ".".join(self.path)
        return f"[[{name}]]" if self.is_array else f"[{name}]"


# --- what the example file says ---


class Comments(NamedTuple):
    """Its comments: above keys, and above tables, by their path."""

    keys: dict[tuple[str, ...], str]
    tables: dict[tuple[str, ...], list[str]]


def read_comments(text: str) -> Comments:
    """The comments of an example file, which belong to the key or table below them, be it after a blank line."""
    keys: dict[tuple[str, ...], str] = {}
    tables: dict[tuple[str, ...], list[str]] = {}
    table: tuple[str, ...] = ()
    comment: list[str] = []
    is_over = False
    for line in text.splitlines():
        if line == "#" or line.startswith("# "):
            comment = [*([] if is_over else comment), line[2:]]
            is_over = False
            continue
        if header := re.fullmatch(r"#?\[\[?([a-z_.]+)\]?\]", line):
            table = tuple(header[1].split("."))
            tables.setdefault(table, _paragraphs(comment))
        elif key := re.match(r"([a-z_]+) = ", line):
            keys[*table, key[1]] = " ".join(_paragraphs(comment))
        if line:
            comment = []
        is_over = True
    return Comments(keys, tables)


def _paragraphs(lines: list[str]) -> list[str]:
    """Joined lines; those of a list, which are indented, stay one each, with their indentation."""
    found: list[str] = []
    is_open = False
    for line in lines:
        if not line.strip():
            is_open = False
        elif line.startswith("  "):
            found.append(line)
            is_open = False
        elif is_open:
            found[-1] += f" {line}"
        else:
            found.append(line)
            is_open = True
    return found


def attributes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring of a type says about its fields; two that are told together have the same text."""
    _, _, listed = (struct.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^ {8}([a-z_, ]+): (.*(?:\n {9,}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


# --- the tree of the settings ---


def tables() -> list[Table]:
    """All tables, in the order of the tree."""
    comments = read_comments(files("vastar_runtime.config").joinpath("example.toml").read_text(encoding="utf-8"))
    return [_table(comments, *found) for found in _structs(Settings, ())]


def _structs(struct: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[tuple[type[msgspec.Struct], Any, bool]]:
    for field in fields_of(struct):
        here = (*path, field.encode_name)
        if (item := item_type(field.type)) is not None:
            yield item, here, True
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            parts = [part for part in _structs(field.type, here) if field.type is not Rate]
            yield from parts or [(field.type, here, False)]


def _table(comments: Comments, struct: type[msgspec.Struct], path: tuple[str, ...], is_array: bool) -> Table:
    paragraphs = comments.tables[path]
    entries = [entry for text in paragraphs if (entry := re.fullmatch(r" +([a-z_]+) +(.*)", text))]
    listed = {entry[1]: entry[2] for entry in entries}
    documented = attributes(struct)
    keys = []
    for field in fields_of(struct):
        name = field.encode_name
        if struct is Scope and name == "changes":
            continue
        said = (_MEANINGS.get((*path, name)), comments.keys.get((*path, name)), listed.get(name))
        whole = [text for text in said if text and not _PART.search(text)]
        none = "left out" if is_array else '"none"'
        told = whole[0] if whole else documented[field.name].replace("None:", f"{none}:")
        meaning, also_set_by = _split_meaning(told)
        default = None if field.required else _shown(write_value(name, field.default))
        keys.append(
            Key(
                name,
                _allowed(struct, name, field.type),
                "left out" if struct is Scope or (is_array and default == '"none"') else default,
                _marked_up(meaning),
                also_set_by,
                _scopes(path[1], name, field.default) if path[0] == "policy" else "",
            )
        )
    intro = [_marked_up(text) for text in paragraphs if not text.startswith("  ") and _ABOUT_EXAMPLE not in text]
    return Table(path, is_array, intro, _needs_restart(path[0]), keys)


def _split_meaning(text: str) -> tuple[str, str]:
    """The text, and the variables and flags that it ends with in parentheses."""
    text = text if text.startswith("true") else text[0].upper() + text[1:]
    found = re.fullmatch(r"(.*?) *\(((?:VASTAR_|--)[^()]*)\)", text)
    meaning, also_set_by = (found[1], found[2]) if found else (text, "")
    return meaning if meaning.endswith((".", "...")) else f"{meaning}.", also_set_by


def _allowed(struct: type[msgspec.Struct], name: str, kind: object) -> str:
    if struct is Scope:
        return "a string"
    try:
        read_value(struct, name, kind, {})  # no key takes a table
    except ValueError as error:
        text = str(error)
    else:
        raise AssertionError(f"{name} takes anything")
    wrong = re.match(r"it is no ([^;]*)", text)
    allowed = re.search(r"allowed: (?:one, )?(.*)", text)
    parts = [wrong[1] if wrong else "", allowed[1] if allowed else ""]
    words = ", ".join(part for part in parts if part)
    for long, short in _SHORTER.items():
        words = words.replace(long, short)
    return re.sub(r"'(\w+)'", r'"\1"', words)


def _scopes(stage: str, name: str, default: Any) -> str:
    """In which scopes the key may stand, as the check of a file has it."""
    places = {"of a tenant": {"tenant": "t"}, "of an origin": {"origin": "https://h"}}
    places["of both"] = {**places["of a tenant"], **places["of an origin"]}
    allowed = [
        place
        for place, scope in places.items()
        if not check({"scope": [{**scope, stage: {name: write_value(name, default)}}]}, {}).problems
    ]
    return "any" if len(allowed) == len(places) else f"{', '.join(allowed)} only"


def _needs_restart(table: str) -> bool:
    part = getattr(Settings(), table, None)
    if not isinstance(part, msgspec.Struct):
        return False
    changed = msgspec.structs.replace(part, **{fields_of(type(part))[0].name: object()})
    return bool(needs_restart(Settings(), msgspec.structs.replace(Settings(), **{table: changed})))


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# --- the page ---

# Values, arrays of them, variables and paths, flags, commands, tables, names with an underscore, forms of addresses.
_CODE = re.compile(
    r"""\["[^\]]*"\]|"[^"\s]{0,60}"|\$[A-Z_]+(?:/[\w.]+)*|~/[\w./]*\w|VASTAR_[A-Z_]+|--[a-z-]+|vastar-runtime\ [a-z]+
    |\[+[a-z_.]+\]+|\b(?:[a-z]+\.)?[a-z]+_[a-z_]+\b|\b[A-Z]+://[A-Z:]+""",
    re.VERBOSE,
)


def _marked_up(text: str) -> str:
    """Text with its names and values as code, and nothing that Markdown would take for its own."""
    pieces: list[str] = []
    end = 0
    text = text.replace("``", "")
    for found in _CODE.finditer(text):
        pieces += [_escaped(text[end : found.start()]), _code(found[0])]
        end = found.end()
    return "".join([*pieces, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return re.sub(r"([*_<>|\[\]])", r"\\\1", text)


def _code(text: str) -> str:
    return f"`{text}`"


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for table in tables() for line in _section(table))])


def _section(table: Table) -> Iterator[str]:
    yield from (f"## {table.header}", "")
    for paragraph in table.intro:
        yield from (paragraph, "")
    yield from ("A change needs a restart." if table.needs_restart else "A reload applies a change.", "")
    columns = ["key", "value", "default", "meaning"]
    also_set_by = any(key.also_set_by for key in table.keys)
    scopes = any(key.scopes not in ("", "any") for key in table.keys)
    columns += ["also set by"] * also_set_by + ["in a scope"] * scopes
    yield _row(columns)
    yield _row(["---"] * len(columns))
    for key in table.keys:
        default = "must be set" if key.default is None else key.default
        cells = [_code(key.name), _marked_up(key.allowed), default if " " in default else _code(default), key.meaning]
        cells += [_marked_up(key.also_set_by)] * also_set_by + [key.scopes] * scopes
        yield _row(cells)
    yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is stale")
    is_check = parser.parse_args().check
    wanted = page()
    if not is_check:
        PAGE.write_text(wanted, encoding="utf-8")
        print(f"wrote docs/{PAGE.name}")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit(f"Error: stale: docs/{PAGE.name}; run: python scripts/generate_config_reference.py")
    else:
        print(f"docs/{PAGE.name} is up to date")


if __name__ == "__main__":
    main()
