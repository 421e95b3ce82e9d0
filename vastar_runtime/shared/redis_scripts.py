"""The scripts that run in Redis, each of which is one operation, whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).with_name("scripts")


class Script(msgspec.Struct, frozen=True):
    """A script, and the name under which Redis knows it once it has it."""

    source: bytes
    sha: str


def _script(*names: str) -> Script:
    source = b"\n".join((_FOLDER / f"{name}.lua").read_bytes() for name in ("common", *names))
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


HELLO = _script("hello")
RENEW = _script("renew")
TAKE = _script("buckets", "take")
GIVE_BACK = _script("buckets", "give_back")
OWE = _script("buckets", "owe")
RESERVE = _script("counters", "reserve")
SYNC = _script("counters", "sync")

ALL = (HELLO, RENEW, TAKE, GIVE_BACK, OWE, RESERVE, SYNC)
