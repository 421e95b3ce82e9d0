"""Settings as TOML that gives them again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .policy import Rate
from .quoting import written
from .settings import Scope, Settings, fields_of, item_type
from .values import write_value

Plain = dict[str, Any]
"""Tables and keys as the file has them."""


def plain(settings: Settings) -> Plain:
    """All settings, as tomllib would read them."""
    return {**_table(settings), "scope": [_scope(scope) for scope in settings.scopes]}


def toml(settings: Settings) -> str:
    """The text of a file with all settings."""
    tree = plain(settings)
    arrays = {key: tree.pop(key) for key, value in list(tree.items()) if isinstance(value, list)}
    lines = [*_lines(tree, "")]
    for name, tables in arrays.items():
        for table in tables:
            lines += ["", f"[[{name}]]", *_lines(table, f"{name}.")]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(struct: msgspec.Struct) -> Plain:
    tree: Plain = {}
    for field in fields_of(type(struct)):
        value = getattr(struct, field.name)
        if item_type(field.type) is not None:
            if value and field.name != "scopes":
                tree[field.encode_name] = [_item(item) for item in value]
        elif isinstance(value, msgspec.Struct) and not isinstance(value, Rate):
            tree[field.encode_name] = _table(value)
        else:
            tree[field.encode_name] = write_value(field.encode_name, value)
    return tree


def _item(item: msgspec.Struct) -> Plain:
    """One of an array: what it says."""
    return {
        field.encode_name: write_value(field.encode_name, value)
        for field in fields_of(type(item))
        if (value := getattr(item, field.name)) != field.default
    }


def _scope(scope: Scope) -> Plain:
    names = {"tenant": scope.tenant, "origin": scope.origin}
    tree: Plain = {key: name for key, name in names.items() if name is not None}
    for stage, key, value in scope.changes:
        tree.setdefault(stage, {})[key] = write_value(key, value)
    return tree


def _lines(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in tree.items():
        if not isinstance(value, dict):
            yield f"{key} = {_literal(value)}"
    for key, value in tree.items():
        if isinstance(value, dict):
            if not all(isinstance(inner, dict) for inner in value.values()):
                yield ""
                yield f"[{prefix}{key}]"
            yield from _lines(value, f"{prefix}{key}.")


def _literal(value: bool | int | float | str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL is one more. A path may hold bytes that are no UTF-8: shown, not loadable.
        return written(json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f"))
    return str(value).lower() if isinstance(value, bool) else repr(value)
