"""The issues that every repository has: the same for the same names in every run."""

import random
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

ISSUES = 95

_FIRST = datetime(2025, 1, 6, 9, tzinfo=UTC)
_PEOPLE = ("ada", "boris", "chandra", "dewi", "emeka", "freya")
_LABELS = {"bug": "d73a4a", "documentation": "0075ca", "enhancement": "a2eeef", "question": "d876e3"}
_SUBJECTS = ("The parser", "A slow upload", "The retry", "The login page", "An empty page", "The export")
_PROBLEMS = (
    "stops after the first line",
    "needs a longer timeout",
    "ignores the setting",
    "shows the wrong time zone",
    "is not in the documentation",
    "fails with a proxy",
)


def issue(owner: str, repository: str, number: int, *, is_closed: bool) -> dict[str, Any]:
    """The issue with a number from 1 to ISSUES, without its URL and number."""
    chosen = random.Random(f"{owner}/{repository}/{number}")
    opened = _FIRST + timedelta(hours=7 * number)
    closed = opened + timedelta(hours=chosen.randint(1, 200)) if is_closed else None
    return {
        "id": _id(owner, repository, number),
        "title": f"{chosen.choice(_SUBJECTS)} {chosen.choice(_PROBLEMS)}",
        "body": f"Seen with version 1.{chosen.randint(0, 9)}.",
        "state": "closed" if is_closed else "open",
        "user": {"login": chosen.choice(_PEOPLE)},
        "labels": [_label(name) for name in sorted(chosen.sample(sorted(_LABELS), chosen.randint(0, 2)))],
        "comments": chosen.randint(0, 12),
        "created_at": _text(opened),
        "updated_at": _text(closed or opened),
        "closed_at": None if closed is None else _text(closed),
    }


def created_issue(
    owner: str, repository: str, number: int, *, title: str, text: str | None, labels: list[str], at: int
) -> dict[str, Any]:
    """An issue that a client makes, without its URL and number; ``at`` is Unix time in seconds."""
    now = _text(datetime.fromtimestamp(at, UTC))
    return {
        "id": _id(owner, repository, number),
        "title": title,
        "body": text,
        "state": "open",
        "user": {"login": "you"},
        "labels": [_label(name) for name in labels],
        "comments": 0,
        "created_at": now,
        "updated_at": now,
        "closed_at": None,
    }


def _id(owner: str, repository: str, number: int) -> int:
    return zlib.crc32(f"{owner}/{repository}".encode()) * 1_000_000 + number


def _label(name: str) -> dict[str, str]:
    return {"name": name, "color": _LABELS.get(name, "ededed")}


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
